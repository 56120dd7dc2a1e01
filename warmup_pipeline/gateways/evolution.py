"""Evolution API 2.x, as the domain asks it.

Holds: :class:`Evolution`, its paths and bodies. Add here: another route. Do not add: what an answer
means (``evolution_answers``), deadlines, retries, wording of errors (``http``).

Source: gateway-contract.md, part 1; domain.md, "Failures", where it classifies.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from urllib.parse import quote

from warmup_pipeline.domain.failures import Evidence, Scope, Stage
from warmup_pipeline.domain.values import ConnectionState, MessageState
from warmup_pipeline.gateways.base import (
    Accepted,
    AudioNote,
    Channel,
    Content,
    GatewayError,
    Listed,
    Listing,
    Observation,
    Pairing,
    Picture,
    Received,
    Recovery,
    Text,
    Trace,
)
from warmup_pipeline.gateways.evolution_answers import (
    flatten,
    highest,
    instance_state,
    is_no_instance,
    listed,
    understand,
)
from warmup_pipeline.gateways.http import SECRET_HEADER, HttpGateway, encode, png_of, safe_cause
from warmup_pipeline.gateways.link import MAX_ANSWER, Answer, Call

_STATES: Final = {
    "open": ConnectionState.OPEN,
    "connecting": ConnectionState.CONNECTING,
    "close": ConnectionState.CLOSED,
}
WEBHOOK_EVENTS: Final = ("MESSAGES_UPSERT", "MESSAGES_UPDATE", "CONNECTION_UPDATE")
"""The events that say something we need (``evolution_webhooks`` reads them)."""

_QR_LASTS: Final = timedelta(seconds=45)
_PAIRING_ASKS: Final = 3
_PAIRING_PAUSE_S: Final = 1.0
"""The first QR code takes the server a moment; ``{"count": 0}`` says that there is none yet (contract 1.5)."""

_PAGE: Final = 20
"""Messages per page: a picture's record holds its thumbnail byte by byte, about 40 KB."""
_MOST_PAGES: Final = 50
_PAGE_BYTES: Final = 4 * MAX_ANSWER

_LONGEST_USER: Final = 18
_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_BRAZIL: Final = re.compile(r"(55)([0-9]{2})([0-9])([0-9]{8})")
_MEXICO_ARGENTINA: Final = re.compile(r"(5[24])([0-9])([0-9]{10})")


def jid(phone: str) -> str:
    """Return the address WhatsApp knows a number by, in the form the gateway itself makes of it.

    A Brazilian mobile number loses its ninth digit where the area code is 31 or more and the digit
    after the nine is 7 or more; Mexican and Argentinian numbers of 13 digits lose their third one.
    Addresses that are already such (``…@lid``) stay.

    Source: gateway-contract.md 1.1, "Number normalisation".
    """
    address = re.sub(r":[0-9]+(?=@|$)", "", phone)
    if address.endswith(("@s.whatsapp.net", "@g.us", "@lid", "@broadcast")):
        return address
    digits = _NOT_DIGIT.sub("", address)
    if len(digits) >= _LONGEST_USER:
        return f"{digits}@g.us"
    if match := _BRAZIL.fullmatch(digits):
        country, area, _, subscriber = match.groups()
        if int(area) >= 31 and int(subscriber[0]) >= 7:
            digits = country + area + subscriber
    elif match := _MEXICO_ARGENTINA.fullmatch(digits):
        digits = match[1] + match[3]
    return f"{digits}@s.whatsapp.net"


class Evolution(HttpGateway):
    """The client of one Evolution server, for the length of one step.

    Every call raises :class:`~warmup_pipeline.gateways.base.GatewayError` for anything but success.
    """

    name: ClassVar[str] = "Evolution API"

    @property
    def polls_confirmations(self) -> bool:
        """Whether delivery states can be asked here: yes."""
        return True

    async def connection_state(self, channel: Channel) -> Observation:
        """Ask for the session's state.

        A missing state means that the instance is not loaded in the server: not connected. An
        instance that does not exist needs a person.
        """
        try:
            body = await self._call(channel, "read the connection state", "GET", "/instance/connectionState")
        except GatewayError as error:
            if not is_no_instance(error.evidence):
                raise
            return Observation(
                ConnectionState.CLOSED, error.evidence.text, needs_person=self._create_instance(channel)
            )
        state = instance_state(body)
        if state is None:
            return Observation(
                ConnectionState.CLOSED, "the gateway gave no state: the instance is not loaded there"
            )
        if state not in _STATES:
            return Observation(ConnectionState.CLOSED, self._clean(f"the gateway says {state}"))
        return Observation(_STATES[state])

    async def recover(self, channel: Channel, seen: ConnectionState) -> Recovery:
        """Restart a session that is connecting (or open but dead); connect one that is closed.

        HTTP 200 means nothing here: ``error: true`` is a refusal, and a QR code means that the
        session is lost until a person scans it. Whether it came back is seen by the next cycle.
        """
        restart = seen in (ConnectionState.CONNECTING, ConnectionState.OPEN)
        action = "restart" if restart else "connect"
        try:
            body = await self._call(
                channel,
                f"{action} the session",
                "POST" if restart else "GET",
                f"/instance/{action}",
            )
        except GatewayError as error:
            if not is_no_instance(error.evidence):
                raise
            return Recovery(
                action,
                taken=False,
                detail=error.evidence.text,
                needs_person=self._create_instance(channel),
            )
        if not isinstance(body, dict) or body.get("error"):
            words = self._clean(flatten(body))
            return Recovery(action, taken=False, detail=f"the gateway answered 200 with an error: {words}")
        if body.get("code") or body.get("base64") or body.get("pairingCode"):
            return Recovery(
                action,
                taken=True,
                detail="the gateway offers a QR code",
                needs_person="scan the QR code with the chip's phone: the session was logged out",
            )
        if (state := instance_state(body)) is not None:
            return Recovery(action, taken=True, detail=self._clean(f"the gateway says {state}"))
        return Recovery(action, taken=True, detail="connecting, no QR code asked for yet")

    async def send(self, channel: Channel, to_phone: str, content: Content, trace: Trace) -> Accepted:
        """Send one message and return WhatsApp's id of it."""
        match content:
            case Text(text):
                asked, path, body = "send a text", "/message/sendText", {"text": text}
            case Picture(data, _, caption):
                # No data: prefix (refused), and no file name: the server makes a JPEG of every image
                # and would label it by the name's extension.
                asked, path = "send a picture", "/message/sendMedia"
                body = {"mediatype": "image", "media": base64.b64encode(data).decode("ascii")}
                if caption:
                    body["caption"] = caption
            case AudioNote(data, _):
                # The field is "audio" here; with "media" the answer is always 400.
                asked, path = "send an audio note", "/message/sendWhatsAppAudio"
                body = {"audio": base64.b64encode(data).decode("ascii")}
        answer = await self._answer(
            channel, asked, "POST", path, {"number": to_phone, **body}, at=None, trace=trace
        )
        parsed, problem = answer.parsed()
        key = parsed.get("key") if isinstance(parsed, dict) else None
        message_id = key.get("id") if isinstance(key, dict) else None
        if isinstance(message_id, str) and message_id:
            return Accepted(message_id)
        if isinstance(parsed, dict) and parsed.get("error"):
            raise self._refused(channel, asked, answer)
        raise self._unreadable(channel, asked, answer, "no message id in the answer") from safe_cause(
            problem, self._redactor
        )

    async def mark_read(self, channel: Channel, received: Sequence[Received], at: datetime) -> None:
        """Mark received messages as read.

        The gateway skips addresses it does not take (``@lid``) and still answers success.
        """
        if not received:
            return
        asked = "mark messages as read"
        keys = {(jid(message.sender_phone), message.message_id) for message in received}
        answer = await self._answer(
            channel,
            asked,
            "POST",
            "/chat/markMessageAsRead",
            # Items must be unique, or the whole request is refused.
            {"readMessages": [{"remoteJid": j, "fromMe": False, "id": i} for j, i in sorted(keys)]},
            at=at,
        )
        parsed, problem = answer.parsed()
        if isinstance(parsed, dict) and parsed.get("error"):
            raise self._refused(channel, asked, answer)
        if not isinstance(parsed, dict) or parsed.get("read") != "success":
            raise self._unreadable(
                channel, asked, answer, "the answer does not say that it was done"
            ) from safe_cause(problem, self._redactor)

    async def react(self, channel: Channel, to: Received, emoji: str, at: datetime) -> None:
        """React to a received message with one emoji (contract 1.14b)."""
        asked = "react to a message"
        key = {"remoteJid": jid(to.sender_phone), "fromMe": False, "id": to.message_id}
        answer = await self._answer(
            channel, asked, "POST", "/message/sendReaction", {"key": key, "reaction": emoji}, at=at
        )
        parsed, problem = answer.parsed()
        if isinstance(parsed, dict) and parsed.get("error"):
            raise self._refused(channel, asked, answer)
        if not isinstance(parsed, dict) or not isinstance(parsed.get("key"), dict):
            raise self._unreadable(
                channel, asked, answer, "the answer does not say that it was done"
            ) from safe_cause(problem, self._redactor)

    async def messages_of(
        self, channel: Channel, since: datetime, until: datetime, *, sent_only: bool
    ) -> Listing:
        """Return what the channel sent in [since, until] (and received, unless ``sent_only``).

        Both times must have a zone. The gateway keeps whole seconds, so the bounds are widened to
        them, and filters by time only where both bounds are given. Not complete after 50 pages.
        """
        first = since.astimezone(UTC).replace(microsecond=0)
        last = (until.astimezone(UTC) + timedelta(microseconds=999_999)).replace(microsecond=0)
        where: dict[str, Any] = {"messageTimestamp": {"gte": _stamp(first), "lte": _stamp(last)}}
        if sent_only:
            # Only true filters: asked for what was received, the gateway answers with both.
            where["key"] = {"fromMe": True}
        found: dict[tuple[str, bool], Listed] = {}
        for page in range(1, _MOST_PAGES + 1):
            asked = "look up messages"
            answer = await self._answer(
                channel,
                asked,
                "POST",
                "/chat/findMessages",
                {"where": where, "page": page, "offset": _PAGE},
                max_bytes=_PAGE_BYTES,
            )
            parsed, problem = answer.parsed()
            messages = parsed.get("messages") if isinstance(parsed, dict) else None
            records = messages.get("records") if isinstance(messages, dict) else None
            pages = messages.get("pages") if isinstance(messages, dict) else None
            if isinstance(parsed, dict) and parsed.get("error"):
                raise self._refused(channel, asked, answer)
            if not isinstance(records, list) or not isinstance(pages, int):
                raise self._unreadable(channel, asked, answer, "no messages in the answer") from safe_cause(
                    problem, self._redactor
                )
            for record in records:
                if (one := listed(record)) is not None and (one.sent or not sent_only):
                    found[one.message_id, one.sent] = one
            if page >= pages or not records:
                return Listing(tuple(found.values()))
        return Listing(tuple(found.values()), complete=False)

    async def queue_of(self, channel: Channel) -> Listing:
        """Return an empty queue: this gateway hands a message to WhatsApp before it answers."""
        del channel
        return Listing()

    async def drop_from_queue(self, channel: Channel, queue_id: str) -> None:
        """Do nothing: there is no queue."""

    async def privacy_id(self, channel: Channel, phone: str) -> str | None:
        """Return the privacy id behind a number, where the server has learned it (2.3.0 and later)."""
        asked = "look up a privacy id"
        answer = await self._answer(channel, asked, "POST", "/chat/whatsappNumbers", {"numbers": [phone]})
        parsed = self._listing(channel, asked, answer, "numbers")
        for row in parsed:
            lid = row.get("lid") if isinstance(row, dict) else None
            if isinstance(lid, str) and lid and row.get("number") == phone:
                return lid if lid.endswith("@lid") else f"{lid}@lid"
        return None

    async def pairing(self, channel: Channel, *, by_code: bool = False) -> Pairing:
        """Return the QR code, or the pairing code; asked for again while the server has none yet."""
        asked = "show a QR code"
        route = f"/instance/connect/{quote(channel.instance, safe='')}"
        # A query of the instance's own number is the one that this route reads.
        route += f"?number={channel.phone}" if by_code else ""
        for attempt in range(_PAIRING_ASKS):
            if attempt:
                await asyncio.sleep(_PAIRING_PAUSE_S)
            answer = await self._answer(channel, asked, "GET", route, whole_route=True)
            parsed, problem = answer.parsed()
            if not isinstance(parsed, dict):
                raise self._unreadable(channel, asked, answer, "no QR code in the answer") from safe_cause(
                    problem, self._redactor
                )
            if parsed.get("error"):
                raise self._refused(channel, asked, answer)
            if instance_state(parsed) == "open":
                return Pairing(connected=True)
            code = parsed.get("pairingCode")
            found = Pairing(
                connected=False,
                picture=png_of(parsed.get("base64")),
                code=code if isinstance(code, str) and code else None,
                lasts=_QR_LASTS,
            )
            if found.code if by_code else found.picture:
                return found
        return Pairing(connected=False)

    async def restore(self, channel: Channel) -> Recovery:
        """Connect: a session whose pairing the server still has comes back, another one asks for a scan."""
        return await self.recover(channel, ConnectionState.CLOSED)

    async def on_whatsapp(self, channel: Channel, phones: Sequence[str]) -> Mapping[str, bool]:
        """Return whether numbers are on WhatsApp; matched by the number asked for, never by position."""
        asked = "look numbers up"
        wanted = list(dict.fromkeys(phones))
        answer = await self._answer(channel, asked, "POST", "/chat/whatsappNumbers", {"numbers": wanted})
        parsed = self._listing(channel, asked, answer, "numbers")
        rows = [row for row in parsed if isinstance(row, dict)]
        return {
            row["number"]: row["exists"]
            for row in rows
            if row.get("number") in wanted and isinstance(row.get("exists"), bool)
        }

    async def status_of(self, channel: Channel, message_id: str) -> MessageState | None:
        """Return the highest of a message's receipts: rows come in no order, and PENDING never has one."""
        asked = "look a message's status up"
        answer = await self._answer(
            channel, asked, "POST", "/chat/findStatusMessage", {"where": {"id": message_id}}
        )
        parsed = self._listing(channel, asked, answer, "statuses")
        said = [
            row["status"] for row in parsed if isinstance(row, dict) and isinstance(row.get("status"), str)
        ]
        return highest(said) if said else None

    async def set_webhook(self, channel: Channel, url: str, secret: str) -> None:
        """Set the instance's one webhook; what was set before is replaced."""
        asked = "set the webhook"
        webhook = {
            "enabled": True,
            "url": url,
            "byEvents": False,
            "base64": False,
            "headers": {SECRET_HEADER: secret},
            # Left out, the server fails; left empty, it sends everything.
            "events": list(WEBHOOK_EVENTS),
        }
        answer = await self._answer(channel, asked, "POST", "/webhook/set", {"webhook": webhook})
        parsed, problem = answer.parsed()
        if not isinstance(parsed, dict) or parsed.get("url") != url:
            raise self._unreadable(
                channel, asked, answer, "the answer does not say that it was done"
            ) from safe_cause(problem, self._redactor)

    async def webhook_problem(self, channel: Channel, path: str, secret: str) -> str | None:
        """Compare the instance's webhook with what it should be."""
        row = await self._call(channel, "read the webhook", "GET", "/webhook/find")
        if not isinstance(row, dict):
            return "no webhook is set"
        if row.get("enabled") is not True:
            return "the webhook is switched off"
        if not str(row.get("url")).endswith(path):
            return f"the webhook goes to another address than …{path}"
        headers = row.get("headers")
        held = {str(k).lower(): v for k, v in headers.items()} if isinstance(headers, dict) else {}
        if held.get(SECRET_HEADER.lower()) != secret:
            return f"the webhook does not bring WARMUP_WEBHOOK_SECRET as {SECRET_HEADER}"
        events = row.get("events")
        if (
            isinstance(events, list)
            and events
            and (missing := set(WEBHOOK_EVENTS) - {str(e) for e in events})
        ):
            return f"the webhook leaves out {', '.join(sorted(missing))}"
        return None

    async def own_number(self, channel: Channel) -> str | None:
        """Return the number that is logged in; it stays known after a logout."""
        asked = "ask which number is logged in"
        # The one route on which the query may name the instance: it has none in its path.
        answer = await self._answer(
            channel,
            asked,
            "GET",
            f"/instance/fetchInstances?instanceName={quote(channel.instance, safe='')}",
            whole_route=True,
        )
        parsed, problem = answer.parsed()
        if not isinstance(parsed, list):
            raise self._unreadable(
                channel, asked, answer, "no list of instances in the answer"
            ) from safe_cause(problem, self._redactor)
        for row in parsed:
            owner = row.get("ownerJid") if isinstance(row, dict) else None
            if isinstance(owner, str) and row.get("name") == channel.instance:
                return _NOT_DIGIT.sub("", owner.split("@", 1)[0].split(":", 1)[0]) or None
        return None

    def _create_instance(self, channel: Channel) -> str:
        return self._redactor.text(
            f"create the instance {channel.instance} in Evolution, or correct the chip's instance name"
        )

    def _key(self, channel: Channel) -> tuple[str | None, Scope]:
        own = self._settings.evolution_instance_keys.get(channel.instance)
        return (own, Scope.INSTANCE) if own else (self._settings.evolution_key, Scope.SERVER)

    async def _call(
        self,
        channel: Channel,
        asked: str,
        method: str,
        route: str,
    ) -> Any:
        answer = await self._answer(channel, asked, method, route)
        parsed, problem = answer.parsed()
        if problem is not None:
            raise self._unreadable(channel, asked, answer, "the answer is no JSON") from safe_cause(
                problem, self._redactor
            )
        return parsed

    async def _answer(
        self,
        channel: Channel,
        asked: str,
        method: str,
        route: str,
        body: object = None,
        *,
        at: datetime | None = None,
        trace: Trace | None = None,
        max_bytes: int = MAX_ANSWER,
        whole_route: bool = False,
    ) -> Answer:
        """Make one call and return its 2xx answer; ``whole_route`` says that the route names the instance."""
        if self._link is None:
            raise self._not_set(channel, asked, "set EVOLUTION_API_URL", scope=Scope.SERVER)
        key, scope = self._key(channel)
        if not key:
            raise self._not_set(channel, asked, "set EVOLUTION_API_KEY", scope=scope)
        if channel.instance in ("", ".", ".."):
            raise self._not_set(
                channel, asked, "give the chip its Evolution instance name", scope=Scope.INSTANCE
            )
        headers = {
            "apikey": key,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **({} if body is None else {"Content-Type": "application/json"}),
            **self._simulator_headers(at, trace),
        }
        call = Call(
            method,
            self._link.url(route if whole_route else f"{route}/{quote(channel.instance, safe='')}"),
            headers,
            None if body is None else encode(body),
            max_bytes,
        )
        answer = await self._ask(self._link, channel, asked, call)
        if not answer.success:
            raise self._refused(channel, asked, answer)
        return answer

    def _refused(self, channel: Channel, asked: str, answer: Answer) -> GatewayError:
        evidence = understand(answer)
        remedy = ""
        if evidence.bad_credentials:
            _, scope = self._key(channel)
            evidence = Evidence(
                Stage.ANSWERED, answer.status, evidence.text, bad_credentials=True, scope=scope
            )
            remedy = (
                "the key is wrong: set EVOLUTION_API_KEY"
                if scope is Scope.SERVER
                else "the instance's own key is wrong: mend it under evolution: in WARMUP_SECRETS_FILE"
            )
        elif is_no_instance(evidence):
            remedy = self._create_instance(channel)
        elif 300 <= answer.status < 400:
            remedy = "the server redirects: set EVOLUTION_API_URL to the address it redirects to"
        return self._error(channel, asked, evidence, attempts=answer.attempts, remedy=remedy)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
