"""Z-API, as the domain asks it.

Holds: :class:`ZApi`, its paths and bodies, and the understanding of its answers: an ``error`` text
stands on a connected instance's status, and a failure may come as HTTP 200. Add here: another
route. Do not add: deadlines, retries, wording of errors (``http``).

The token is part of every path: no address of a request ever goes into a text.

Source: gateway-contract.md, part 2; domain.md, "Failures", where it classifies.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
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
from warmup_pipeline.gateways.http import SECRET_PARAMETER, HttpGateway, encode, png_of, safe_cause
from warmup_pipeline.gateways.link import Answer, Call

WEBHOOKS: Final = {
    "update-webhook-received": "receivedCallbackUrl",
    "update-webhook-delivery": "deliveryCallbackUrl",
    "update-webhook-message-status": "messageStatusCallbackUrl",
    "update-webhook-disconnected": "disconnectedCallbackUrl",
    "update-webhook-connected": "connectedCallbackUrl",
}
"""Routes that set the webhooks we need, and under which name ``/me`` shows each."""

_QR_LASTS: Final = timedelta(seconds=20)
_NO_CONTENT: Final = 204
_QUEUE_PAGE: Final = 30
"""The most the gateway gives at a time (contract 2.3)."""
_MOST_QUEUE_PAGES: Final = 34
"""A queue holds at most 1,000 messages."""

_CLIENT_TOKEN: Final = re.compile(r"client-token|^\S+ not allowed\.?$", re.IGNORECASE)
"""The account's token is missing or wrong, or the account refuses our address: ``null not allowed``."""
_DISCONNECTED: Final = re.compile(
    r"(?:not|to be) connected|disconnected|restore the session|connection closed", re.IGNORECASE
)
_TIMEOUT: Final = re.compile(r"timeout on send message", re.IGNORECASE)
"""A callback's word for a session that took no message (contract 3.2: the channel is down)."""
_NO_RECIPIENT: Final = re.compile(r"phone number does not exist|invalid phone", re.IGNORECASE)
_LOGGED_OUT: Final = re.compile(r"restore the session|\bqr[\s_-]?code", re.IGNORECASE)
_UNSUBSCRIBED: Final = re.compile(r"subscribe to this instance", re.IGNORECASE)
_NO_INSTANCE: Final = re.compile(r"instance not found|NOT_FOUND", re.IGNORECASE)


def error_text(body: object) -> str:
    """Return the words of an error body: ``error``, ``errorCode`` and ``message``, where they are texts."""
    if not isinstance(body, dict):
        return ""
    parts = (body.get(key) for key in ("error", "errorCode", "message"))
    return "; ".join(dict.fromkeys(part for part in parts if isinstance(part, str) and part))


def evidence_of_words(words: str) -> Evidence:
    """Return what the words of a callback show, told after the message had been accepted."""
    return Evidence(
        stage=Stage.ANSWERED,
        text=words,
        recipient_missing=bool(_NO_RECIPIENT.search(words)),
        disconnected=bool(_DISCONNECTED.search(words) or _TIMEOUT.search(words)),
    )


def understand(answer: Answer) -> Evidence:
    """Return what a refusal shows: who is at fault, in flags that the domain classifies."""
    body, unreadable = answer.parsed()
    text = answer.text() if unreadable else error_text(body) or answer.text()
    words = error_text(body)
    account = any(_CLIENT_TOKEN.search(part) for part in words.split("; "))
    return Evidence(
        stage=Stage.ANSWERED,
        status=answer.status,
        text=text,
        recipient_missing=bool(_NO_RECIPIENT.search(words)),
        disconnected=bool(_DISCONNECTED.search(words)),
        bad_credentials=account or answer.status == 401,
        scope=Scope.SERVER if account else Scope.INSTANCE,
        retry_after=answer.retry_after,
    )


class ZApi(HttpGateway):
    """The client of one Z-API account, for the length of one step.

    Every call raises :class:`~warmup_pipeline.gateways.base.GatewayError` for anything but success.
    """

    name: ClassVar[str] = "Z-API"

    @property
    def polls_confirmations(self) -> bool:
        """Whether delivery states can be asked here: no, Z-API tells them by webhook only."""
        return False

    async def connection_state(self, channel: Channel) -> Observation:
        """Ask for the session's state. ``connected`` alone decides; ``error`` is a status text.

        An instance that a person must mend (logged out, unsubscribed, unknown) is not connected and
        says so.
        """
        asked = "read the connection state"
        try:
            body = await self._call(channel, asked, "GET", "/status")
        except GatewayError as error:
            if (needs := self._needs_person(error.evidence.text)) is None or error.evidence.bad_credentials:
                raise
            return Observation(ConnectionState.CLOSED, error.evidence.text, needs)
        words = error_text(body)
        if body.get("connected") is True:
            offline = body.get("smartphoneConnected") is False
            return Observation(ConnectionState.OPEN, "the chip's phone is offline" if offline else "")
        return Observation(
            ConnectionState.CLOSED,
            self._clean(words) or "the gateway did not say that it is connected",
            self._needs_person(words),
        )

    async def recover(self, channel: Channel, seen: ConnectionState) -> Recovery:
        """Restart the instance, whatever was seen. Whether it came back is seen by the next cycle."""
        del seen
        action = "restart"
        try:
            body = await self._call(channel, "restart the session", "GET", "/restart")
        except GatewayError as error:
            if (needs := self._needs_person(error.evidence.text)) is None or error.evidence.bad_credentials:
                raise
            return Recovery(action, taken=False, detail=error.evidence.text, needs_person=needs)
        taken = body.get("value") is True
        return Recovery(action, taken=taken, detail="" if taken else "the gateway did not take the restart")

    async def send(self, channel: Channel, to_phone: str, content: Content, trace: Trace) -> Accepted:
        """Put one message into the gateway's queue; return WhatsApp's id and the queue's."""
        match content:
            case Text(text):
                asked, path, body = "send a text", "/send-text", {"message": text}
            case Picture(data, mime, caption):
                asked, path = "send a picture", "/send-image"
                body = {"image": _data_uri(mime, data)}
                if caption:
                    body["caption"] = caption
            case AudioNote(data, mime):
                asked, path, body = "send an audio note", "/send-audio", {"audio": _data_uri(mime, data)}
        answer = await self._answer(channel, asked, "POST", path, {"phone": to_phone, **body}, trace=trace)
        parsed, problem = answer.parsed()
        message_id = parsed.get("messageId") if isinstance(parsed, dict) else None
        if isinstance(message_id, str) and message_id:
            queue_id = parsed.get("zaapId")
            return Accepted(message_id, queue_id if isinstance(queue_id, str) and queue_id else None)
        raise self._unreadable(channel, asked, answer, "no message id in the answer") from safe_cause(
            problem, self._redactor
        )

    async def mark_read(self, channel: Channel, received: Sequence[Received], at: datetime) -> None:
        """Mark received messages as read, one request each; the first refusal ends it."""
        asked = "mark messages as read"
        for made, message in enumerate(dict.fromkeys(received)):
            try:
                answer = await self._answer(
                    channel,
                    asked,
                    "POST",
                    "/read-message",
                    {"phone": message.sender_phone, "messageId": message.message_id},
                    at=at,
                )
            except GatewayError as error:
                # Of the whole, something was attempted, though nothing of the last one.
                error.attempts = max(error.attempts, made)
                raise
            parsed, problem = answer.parsed()
            # 204 by the current documentation, an empty object by the older one.
            if answer.status != _NO_CONTENT and not isinstance(parsed, dict):
                raise self._unreadable(
                    channel, asked, answer, "the answer does not say that it was done"
                ) from safe_cause(problem, self._redactor)

    async def react(self, channel: Channel, to: Received, emoji: str, at: datetime) -> None:
        """React to a received message with one emoji; it goes through the queue like every send."""
        asked = "react to a message"
        answer = await self._answer(
            channel,
            asked,
            "POST",
            "/send-reaction",
            {"phone": to.sender_phone, "messageId": to.message_id, "reaction": emoji},
            at=at,
        )
        parsed, problem = answer.parsed()
        if not isinstance(parsed, dict) or not parsed.get("messageId"):
            raise self._unreadable(
                channel, asked, answer, "the answer does not say that it was done"
            ) from safe_cause(problem, self._redactor)

    async def messages_of(
        self, channel: Channel, since: datetime, until: datetime, *, sent_only: bool
    ) -> Listing:
        """Return nothing, and not completely: there is no route to ask (contract 2.3)."""
        del channel, since, until, sent_only
        return Listing(complete=False)

    async def queue_of(self, channel: Channel) -> Listing:
        """Return what waits in the instance's queue: accepted, and not gone yet.

        A queue that changes between two pages is not complete: what left it is not told apart from
        what never was in it.
        """
        asked = "look at the queue"
        found: dict[str, Listed] = {}
        state: str | None = None
        for page in range(_MOST_QUEUE_PAGES):
            body: dict[str, Any] = {"pageSize": _QUEUE_PAGE}
            if state is not None:
                body["pagingState"] = state
            answer = await self._answer(channel, asked, "POST", "/queue", body)
            parsed, problem = answer.parsed()
            rows = parsed.get("messages") if isinstance(parsed, dict) else None
            if not isinstance(parsed, dict) or not isinstance(rows, list):
                raise self._unreadable(channel, asked, answer, "no messages in the answer") from safe_cause(
                    problem, self._redactor
                )
            for row in rows:
                if (one := _queued(row)) is not None:
                    found[one.message_id] = one
            following = parsed.get("pagingState")
            state = following if isinstance(following, str) and following else None
            if not parsed.get("hasMore") or state is None:
                return Listing(tuple(found.values()), complete=page == 0)
        return Listing(tuple(found.values()), complete=False)

    async def drop_from_queue(self, channel: Channel, queue_id: str) -> None:
        """Take a message out of the queue. One that has just left it is no error here.

        What the gateway answers is not documented, so an empty body is taken for done like any JSON. A
        body that cannot be read is nobody's word: whether the message still stands in the queue is
        not known, and the caller looks at the queue again.
        """
        asked = "remove a message from the queue"
        answer = await self._answer(channel, asked, "DELETE", f"/queue/{quote(queue_id, safe='')}")
        _, problem = answer.parsed()
        if answer.body.strip() and problem is not None:
            raise self._unreadable(
                channel, asked, answer, "the answer does not say that it was done"
            ) from safe_cause(problem, self._redactor)

    async def privacy_id(self, channel: Channel, phone: str) -> str | None:
        """Return nothing: what this gateway lists, it lists by the number that was written to."""
        del channel, phone
        return None

    async def pairing(self, channel: Channel, *, by_code: bool = False) -> Pairing:
        """Return the QR code, or the code for the chip's own phone."""
        asked = "show a QR code"
        body = await self._call(
            channel, asked, "GET", f"/phone-code/{channel.phone}" if by_code else "/qr-code/image"
        )
        value = body.get("value")
        if body.get("connected") is True and not value:
            return Pairing(connected=True)
        if by_code:
            return Pairing(connected=False, code=value if isinstance(value, str) and value else None)
        return Pairing(connected=False, picture=png_of(value), lasts=_QR_LASTS)

    async def restore(self, channel: Channel) -> Recovery:
        """Ask for the session to be restored from what the gateway keeps of it."""
        body = await self._call(channel, "restore the session", "GET", "/restore-session")
        taken = body.get("value") is True
        return Recovery(
            "restore", taken=taken, detail="" if taken else "the gateway did not restore the session"
        )

    async def on_whatsapp(self, channel: Channel, phones: Sequence[str]) -> Mapping[str, bool]:
        """Return whether numbers are on WhatsApp.

        For set-up only: the gateway looks by itself before every send, and advises against asking first.
        """
        asked = "look numbers up"
        wanted = list(dict.fromkeys(phones))
        answer = await self._answer(channel, asked, "POST", "/phone-exists-batch", {"phones": wanted})
        parsed = self._listing(channel, asked, answer, "numbers")
        rows = [row for row in parsed if isinstance(row, dict)]
        return {
            row["inputPhone"]: row["exists"]
            for row in rows
            if row.get("inputPhone") in wanted and isinstance(row.get("exists"), bool)
        }

    async def status_of(self, channel: Channel, message_id: str) -> MessageState | None:
        """Return nothing: the gateway tells statuses by webhook only (contract 2.3)."""
        del channel, message_id
        return None

    async def set_webhook(self, channel: Channel, url: str, secret: str) -> None:
        """Set the addresses of the five kinds of events that matter here; others stay as they are."""
        asked = "set the webhooks"
        address = webhook_address(url, secret)
        for route in WEBHOOKS:
            answer = await self._answer(channel, asked, "PUT", f"/{route}", {"value": address})
            parsed, problem = answer.parsed()
            if not isinstance(parsed, dict) or parsed.get("value") is not True:
                raise self._unreadable(
                    channel, asked, answer, "the answer does not say that it was done"
                ) from safe_cause(problem, self._redactor)

    async def webhook_problem(self, channel: Channel, path: str, secret: str) -> str | None:
        """Compare the instance's webhook addresses with what they should be."""
        body = await self._call(channel, "read the webhooks", "GET", "/me")
        held = {name: body.get(field) for name, field in WEBHOOKS.items()}
        missing = sorted(name for name, value in held.items() if not value)
        if missing:
            return f"no webhook is set by {', '.join(missing)}"
        if any(not str(value).partition("?")[0].endswith(path) for value in held.values()):
            return f"a webhook goes to another address than …{path}"
        wanted = webhook_address(path, secret)
        if any(not str(value).endswith(wanted) for value in held.values()):
            return f"a webhook does not bring WARMUP_WEBHOOK_SECRET as ?{SECRET_PARAMETER}="
        return None

    async def own_number(self, channel: Channel) -> str | None:
        """Return the number that is logged in."""
        body = await self._call(channel, "ask which number is logged in", "GET", "/device")
        phone = body.get("phone")
        return (re.sub(r"[^0-9]", "", phone.split("@", 1)[0]) or None) if isinstance(phone, str) else None

    @staticmethod
    def _needs_person(words: str) -> str | None:
        if _LOGGED_OUT.search(words):
            return "restore the session in Z-API's panel, or scan the QR code with the chip's phone"
        if _UNSUBSCRIBED.search(words):
            return "renew the subscription of this Z-API instance"
        if _NO_INSTANCE.search(words):
            return "correct the chip's Z-API instance id, or its token under zapi: in WARMUP_SECRETS_FILE"
        return None

    async def _call(self, channel: Channel, asked: str, method: str, route: str) -> dict[str, Any]:
        answer = await self._answer(channel, asked, method, route)
        parsed, problem = answer.parsed()
        if not isinstance(parsed, dict):
            raise self._unreadable(channel, asked, answer, "the answer is no JSON object") from safe_cause(
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
    ) -> Answer:
        """Make one call and return its answer where that is no refusal."""
        if channel.instance in ("", ".", ".."):
            raise self._not_set(channel, asked, "give the chip its Z-API instance id", scope=Scope.INSTANCE)
        token = self._settings.zapi_tokens.get(channel.instance)
        if not token or self._link is None:
            raise self._not_set(
                channel,
                asked,
                "name the instance's token under zapi: in WARMUP_SECRETS_FILE",
                scope=Scope.INSTANCE,
            )
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **({} if body is None else {"Content-Type": "application/json"}),
            **self._simulator_headers(at, trace),
        }
        if self._settings.zapi_client_token:
            headers["Client-Token"] = self._settings.zapi_client_token
        path = f"/instances/{quote(channel.instance, safe='')}/token/{quote(token, safe='')}{route}"
        answer = await self._ask(
            self._link,
            channel,
            asked,
            Call(method, self._link.url(path), headers, None if body is None else encode(body)),
        )
        if not answer.success or self._is_refusal(answer, route):
            raise self._refused(channel, asked, answer)
        return answer

    @staticmethod
    def _is_refusal(answer: Answer, route: str) -> bool:
        """Whether a 2xx is a failure: an ``error``, and nothing that says it worked."""
        if answer.status == _NO_CONTENT:
            return False
        body, _ = answer.parsed()
        if not isinstance(body, dict) or not body.get("error"):
            return False
        if route == "/status":
            return not isinstance(body.get("connected"), bool)
        return not (body.get("messageId") or body.get("value") is True)

    def _refused(self, channel: Channel, asked: str, answer: Answer) -> GatewayError:
        evidence = understand(answer)
        remedy = ""
        if evidence.bad_credentials:
            remedy = (
                "the account does not let us in: set ZAPI_CLIENT_TOKEN to its security token"
                if evidence.scope is Scope.SERVER
                else "mend the instance's token under zapi: in WARMUP_SECRETS_FILE"
            )
        elif 300 <= answer.status < 400:
            remedy = "the server redirects: set ZAPI_BASE_URL to the address it redirects to"
        else:
            remedy = self._needs_person(evidence.text) or ""
        return self._error(channel, asked, evidence, attempts=answer.attempts, remedy=remedy)


def _queued(row: object) -> Listed | None:
    """Return one row of the queue, ``None`` where it has no ids."""
    if not isinstance(row, dict):
        return None
    message_id, queue_id, phone, text = (row.get(n) for n in ("MessageId", "ZaapId", "Phone", "Message"))
    if not isinstance(queue_id, str) or not queue_id:
        return None
    digits = re.sub(r"[^0-9]", "", str(phone or "").split("@", 1)[0])
    address = phone if isinstance(phone, str) and phone.endswith("@lid") else f"{digits}@s.whatsapp.net"
    return Listed(
        message_id=message_id if isinstance(message_id, str) and message_id else queue_id,
        queue_id=queue_id,
        sent=True,
        addresses=frozenset({address}),
        kind=None,
        text=text if isinstance(text, str) else "",
    )


def webhook_address(url: str, secret: str) -> str:
    """Return a webhook's address with the secret in it: this gateway cannot send headers."""
    return f"{url}?{SECRET_PARAMETER}={quote(secret, safe='')}"


def _data_uri(mime: str, data: bytes) -> str:
    # The opposite of Evolution: Z-API wants the prefix.
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
