"""The one place that performs a request to a gateway, and the one that words its failure.

Holds: :class:`Link` (deadline, one retry, bounded answers, concurrency per server and instance),
:class:`ClientPool` (many small transports instead of one slow big one), and :class:`HttpGateway`,
what the two clients share: building a :class:`~warmup_pipeline.gateways.base.GatewayError` that
shows no secret and no phone. Do not add: paths, bodies, a gateway's wording (``evolution``,
``zapi``).

Source: domain.md, "Failures": 10 s; at most one retry, and only where the gateway certainly did not
act; a request that was written and not answered is unknown and never sent again.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import logging
import re
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final

import httpcore
import httpx

from warmup_pipeline.domain.failures import Evidence, Scope, Stage, classify, may_retry
from warmup_pipeline.domain.privacy import Redactor, mask_phone
from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import Channel, GatewayError, Trace
from warmup_pipeline.gateways.credentials import GatewaySettings

TransportFactory = Callable[[], httpx.AsyncBaseTransport]

DEADLINE_S: Final = 10.0
"""Seconds one request may take in all, from connecting to the last byte of the answer."""
CONNECT_S: Final = 5.0
"""Seconds of them that connecting may take."""
RETRY_PAUSE_S: Final = 0.5
"""Seconds before the one retry where the gateway named none."""
MAX_ANSWER: Final = 1_000_000
"""Bytes of answer that are read: no answer this project asks for comes near it."""
CONNECTIONS_PER_CLIENT: Final = 5
"""A pool of connections slows down with the square of its size: measured 369 requests/s at 20
connections in one, 130 at 50 to 300; 20 to 100 pools of 5 gave 1,100."""
KEEPALIVE_S: Final = 2.0
"""Seconds an idle connection is kept. Node (Evolution) closes one after 5 s; a request written into a
connection that is just being closed is lost with an unknown outcome, so we leave well before."""

SECRET_HEADER: Final = "X-Warmup-Secret"  # noqa: S105 (a name)
SECRET_PARAMETER: Final = "key"  # noqa: S105 (a name)
"""How a webhook brings the operator's secret: a header, or a parameter where it can send none."""

_SHOWN_WORDS: Final = 300
_READ_WORDS: Final = 4_000
_LONGEST_RETRY_AFTER: Final = 86_400.0

# Their records hold whole requests, and the bodies and addresses of these hold phones and tokens.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How patient and how busy a link may be.

    Attributes:
        deadline: seconds one request may take in all.
        retry_pause: seconds before the one retry where the gateway named none.
        connections: requests in flight at one server at the same time.
        not_after: event-loop time by which everything must have ended (the step's own end);
            ``None`` for no end. A request that could not have its whole deadline before it is not
            begun: cut short it would only make an unknown outcome.
    """

    deadline: float = DEADLINE_S
    retry_pause: float = RETRY_PAUSE_S
    connections: int = 100
    not_after: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Address and headers hold secrets: they never show."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    max_bytes: int = MAX_ANSWER


class UnreadableError(Exception):
    """An answer is no JSON. Its text says where it stops being that, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway answered, and as much of it as is needed could be read.

    Attributes:
        status: HTTP status.
        body: the answer's bytes; of a refusal (not 2xx) perhaps not all of them.
        retry_after: seconds the gateway asked to wait, ``None`` if it did not.
        attempts: requests made for it.
    """

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None
    attempts: int = 1

    @property
    def success(self) -> bool:
        """Whether the status is 2xx, which is not yet the gateway's word that it did what was asked."""
        return 200 <= self.status < 300

    def parsed(self) -> tuple[Any, Exception | None]:
        """Return the body as JSON and ``None``, or ``None`` and why it cannot be read.

        The content type is not asked: proxies rewrite it, and a body that is JSON and holds the
        message id says more about what happened than its label.
        """
        try:
            return json.loads(self.body), None
        except (ValueError, RecursionError) as error:
            # The exceptions of json hold the whole body in their attributes: only their words are kept.
            return None, UnreadableError(f"{type(error).__name__}: {error}").with_traceback(
                error.__traceback__
            )

    def text(self) -> str:
        """Return the beginning of the body as text (not redacted)."""
        return self.body[: 4 * _READ_WORDS].decode("utf-8", errors="replace")


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer that can be read came.

    Attributes:
        stage: how far the request got.
        words: what happened, in our words (not redacted).
        cause: the exception seen, ``None`` where there was none.
        attempts: requests made: 0 where it was too late to begin.
        status: HTTP status where at least that came.
    """

    stage: Stage
    words: str
    cause: BaseException | None = field(default=None, repr=False)
    attempts: int = 1
    status: int | None = None


Reply = Answer | Silence


@functools.cache
def _public_tls() -> ssl.SSLContext:
    # About 20 ms each, so one for the process. It honours SSL_CERT_FILE: some operators have their own CA.
    return httpx.create_ssl_context()


def _no_tls() -> ssl.SSLContext:
    # For plain http: httpx would otherwise load all public certificates once per client for nothing.
    # It trusts no certificate at all, so a TLS connection made with it by mistake fails.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class ClientPool:
    """Transports of a few connections each, made when they are needed, the least busy one first.

    They are httpx transports, not clients: a client would keep a gateway's cookies from one chip's
    account for another's, follow redirects with credentials, and log every address.

    Args:
        secure: whether the server speaks https.
        connections: how many connections there may be in all.
        transport_factory: makes another transport instead (an in-process gateway).
    """

    def __init__(
        self, *, secure: bool, connections: int, transport_factory: TransportFactory | None = None
    ) -> None:
        self._most = max(1, -(-connections // CONNECTIONS_PER_CLIENT))
        self._factory = transport_factory or functools.partial(self._socket_transport, secure=secure)
        self._transports: list[httpx.AsyncBaseTransport] = []
        self._busy: list[int] = []

    @property
    def size(self) -> int:
        """How many transports have been made."""
        return len(self._transports)

    @staticmethod
    def _socket_transport(*, secure: bool) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=_public_tls() if secure else _no_tls(),
            trust_env=False,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_PER_CLIENT,
                max_keepalive_connections=CONNECTIONS_PER_CLIENT,
                keepalive_expiry=KEEPALIVE_S,
            ),
        )

    @contextmanager
    def lease(self) -> Iterator[httpx.AsyncBaseTransport]:
        """Lend the least busy transport for one request."""
        chosen = min(range(len(self._busy)), key=self._busy.__getitem__, default=None)
        if chosen is None or (self._busy[chosen] >= CONNECTIONS_PER_CLIENT and self.size < self._most):
            self._transports.append(self._factory())
            self._busy.append(0)
            chosen = self.size - 1
        self._busy[chosen] += 1
        try:
            yield self._transports[chosen]
        finally:
            self._busy[chosen] -= 1

    async def aclose(self) -> None:
        """Close every connection. The pool must not be used afterwards."""
        transports, self._transports, self._busy = self._transports, [], []
        for transport in transports:
            await transport.aclose()


class _Progress:
    """How far one request got, told by the transport while it works.

    Once the headers have begun to be written the gateway may act, with one exception: writing them
    failed. Then no whole request can have left, for the body comes after them.
    """

    def __init__(self) -> None:
        self.stage = Stage.CONNECT
        self._told = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._told = True
        if event.endswith("send_request_headers.started"):
            self.stage = Stage.AFTER_WRITE
        elif event.endswith("send_request_headers.failed") and isinstance(
            info.get("exception"), httpcore.WriteError
        ):
            self.stage = Stage.BEFORE_WRITE

    def reached(self, error: BaseException) -> Stage:
        """Return how far the request had got when ``error`` came."""
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
            return Stage.CONNECT
        # A transport that tells nothing may have done anything.
        return self.stage if self._told else Stage.AFTER_WRITE


class _TooLargeError(Exception):
    """An answer went over its bound."""


class _TooLateError(Exception):
    """The step's end is too near to begin a request."""


class Link:
    """Requests to one server, for the length of one step, inside one event loop.

    Args:
        base_url: the server's address.
        limits: deadline, pause, concurrency, end.
        transport_factory: makes another transport instead of sockets.
    """

    def __init__(
        self, base_url: str, limits: LinkLimits, transport_factory: TransportFactory | None = None
    ) -> None:
        self._limits = limits
        self._base = base_url.rstrip("/")
        url = httpx.URL(base_url)
        self.host: Final = url.netloc.decode("ascii")
        self._pool = ClientPool(
            secure=url.scheme == "https",
            connections=limits.connections,
            transport_factory=transport_factory,
        )
        self._server = asyncio.Semaphore(limits.connections)
        self._instances: dict[str, asyncio.Lock] = {}
        self._latest_start = None if limits.not_after is None else limits.not_after - limits.deadline
        self._timeouts = {
            "connect": min(CONNECT_S, limits.deadline),
            "read": limits.deadline,
            "write": limits.deadline,
            "pool": limits.deadline,
        }

    def url(self, path: str) -> str:
        """Return the address of ``path``, which begins with a slash."""
        return self._base + path

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def ask(self, call: Call, *, instance: str) -> Reply:
        """Make a request, and one retry where the gateway certainly did not act.

        Requests of one instance go one after another; a slow one holds back no other instance.
        """
        lock = self._instances.setdefault(instance, asyncio.Lock())
        reply: Reply = Silence(
            Stage.BEFORE_WRITE, "the step ends too soon for a whole request: none was made", attempts=0
        )
        try:
            async with self._turn(lock):
                for attempt in (1, 2):
                    # The server's turn is given back while waiting: another instance can use it.
                    async with self._turn(self._server):
                        reply = replace(await self._attempt(call), attempts=attempt)
                    if attempt == 2 or not await self._wait_for_retry(reply):
                        break
        except _TooLateError:
            pass
        return reply

    @asynccontextmanager
    async def _turn(self, gate: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._latest_start):
                await gate.acquire()
        except TimeoutError:
            raise _TooLateError from None
        try:
            if self._latest_start is not None and asyncio.get_running_loop().time() > self._latest_start:
                raise _TooLateError
            yield
        finally:
            gate.release()

    async def _wait_for_retry(self, reply: Reply) -> bool:
        evidence = evidence_of(reply)
        if not may_retry(evidence):
            return False
        pause = max(self._limits.retry_pause, evidence.retry_after or 0.0)
        if self._latest_start is None:
            fits = pause <= max(self._limits.deadline, self._limits.retry_pause)
        else:
            fits = asyncio.get_running_loop().time() + pause <= self._latest_start
        if fits:
            await asyncio.sleep(pause)
        return fits

    async def _attempt(self, call: Call) -> Reply:
        progress = _Progress()
        request = httpx.Request(
            call.method,
            call.url,
            headers=call.headers,
            content=call.body,
            extensions={"timeout": self._timeouts, "trace": progress},
        )
        status: int | None = None
        retry_after: float | None = None
        body = bytearray()
        try:
            # The transport's own timeouts begin anew with every byte; this one does not.
            async with asyncio.timeout(self._limits.deadline):
                with self._pool.lease() as transport:
                    response = await transport.handle_async_request(request)
                    status = response.status_code
                    retry_after = _retry_after(response.headers)
                    try:
                        async for chunk in response.aiter_bytes():
                            body += chunk
                            if len(body) > call.max_bytes:
                                raise _TooLargeError(f"the answer is larger than {call.max_bytes} bytes")
                    finally:
                        await response.aclose()
        except (httpx.HTTPError, OSError, _TooLargeError) as error:
            if status is not None and not 200 <= status < 300:
                # A refusal is one by its status, whatever became of its words.
                return Answer(status, bytes(body[: call.max_bytes]), retry_after)
            stage = progress.reached(error) if status is None else Stage.AFTER_WRITE
            return Silence(stage, self._words(error, stage), error, status=status)
        return Answer(status, bytes(body), retry_after)

    def _words(self, error: BaseException, stage: Stage) -> str:
        if isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)) or (
            stage is Stage.CONNECT and isinstance(error, TimeoutError)
        ):
            return f"no connection to {self.host} within {self._timeouts['connect']:g} s"
        if isinstance(error, (httpx.TimeoutException, TimeoutError)):
            return f"no whole answer within {self._limits.deadline:g} s"
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        if stage is Stage.CONNECT:
            return f"no connection to {self.host} ({detail})"
        if stage is Stage.BEFORE_WRITE:
            return f"the connection broke before the request was written ({detail})"
        if isinstance(error, _TooLargeError):
            return str(error)
        return f"the connection broke before a whole answer came ({detail})"


def _retry_after(headers: httpx.Headers) -> float | None:
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value):
        return min(float(value), _LONGEST_RETRY_AFTER)
    until = _http_date(value)
    if until is None:
        return None
    # Counted from the gateway's own clock where it tells it.
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_RETRY_AFTER)


def _http_date(value: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def evidence_of(reply: Reply, text: str = "") -> Evidence:
    """Return what a reply shows by itself, before a gateway's wording is understood."""
    if isinstance(reply, Silence):
        return Evidence(stage=reply.stage, status=reply.status, text=text)
    return Evidence(Stage.ANSWERED, status=reply.status, text=text, retry_after=reply.retry_after)


class RedactedCauseError(Exception):
    """Stands for an exception whose text held a secret or a phone: its type and redacted text."""


def safe_cause(error: BaseException | None, redactor: Redactor) -> BaseException | None:
    """Return ``error`` where its whole traceback may be shown, else a copy that may.

    The copy keeps the frames and the texts of the whole chain, redacted.
    """
    if error is None:
        return None
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(f"{type(link).__name__}: {link}")
        link = link.__cause__ or link.__context__
    shown = "".join(traceback.format_exception(error)) + "".join(chain)
    if redactor.text(shown) == shown:
        return error
    return RedactedCauseError(redactor.text(" <- ".join(chain))).with_traceback(error.__traceback__)


_MEANING: Final = {
    FailureClass.UNKNOWN: "it may have acted or not: never asked again, its outcome is looked up",
    FailureClass.RECIPIENT: "the recipient is not on WhatsApp: no fault of the sender",
    FailureClass.DISCONNECTED: "the chip's WhatsApp session is down: it waits until it is open again",
    FailureClass.RATE_LIMITED: "too many requests: the chip rests",
    FailureClass.GATEWAY: "the gateway let nobody in: no chip's fault",
    FailureClass.RESTRICTION: "WhatsApp restricts this chip: it rests",
    FailureClass.TRANSIENT: "the gateway failed for now: nothing was accepted",
    FailureClass.PERMANENT: "the gateway refused it: asking again would not help",
}


class HttpGateway:
    """What the two clients share: the link, the simulator's headers, and the wording of failures.

    Args:
        link: the way to the server, ``None`` where no address is set.
        settings: addresses, keys and tokens.
        redactor: takes secrets and phones out of every text.
        simulated: whether the gateway is the simulator, which alone is told :class:`Trace` and time.
        at: logical time told with the calls that bring none of their own; ``None`` for none.
    """

    name: ClassVar[str]

    def __init__(
        self,
        link: Link | None,
        settings: GatewaySettings,
        redactor: Redactor,
        *,
        simulated: bool,
        at: datetime | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._redactor = redactor
        self._simulated = simulated
        self._at = at

    def server_of(self, channel: Channel) -> str:
        """Return the key of the server the channel's calls depend on (no secret in it)."""
        return f"{channel.provider}:{self._link.host if self._link else 'not set'}"

    def _simulator_headers(self, at: datetime | None = None, trace: Trace | None = None) -> dict[str, str]:
        if not self._simulated:
            return {}
        headers = {}
        if trace is not None:
            headers["X-Warmup-Message"] = (
                f"{trace.message_id};conversation={trace.conversation_id};turn={trace.turn}"
            )
        if logical := (trace.at if trace else at or self._at):
            headers["X-Warmup-At"] = logical.astimezone(UTC).isoformat()
        return headers

    def _clean(self, text: str) -> str:
        """Return text of a gateway as one short line that may be shown."""
        cut = text[:_READ_WORDS]
        clean = self._redactor.text(cut)
        if len(cut) < len(text):
            # What the cut may have broken in two is no longer recognised: leave the end out.
            clean = clean[:-256]
        line = " ".join("".join(c if c.isprintable() else " " for c in clean).split())
        return line if len(line) <= _SHOWN_WORDS else line[: _SHOWN_WORDS - 1] + "…"

    def _error(
        self,
        channel: Channel,
        asked: str,
        evidence: Evidence,
        *,
        attempts: int,
        remedy: str = "",
    ) -> GatewayError:
        """Return the error of a failed call, to be raised from :func:`safe_cause`.

        Args:
            channel: the chip concerned.
            asked: what was asked, after "did not": ``send a text``.
            evidence: what was seen; its text is redacted here.
            attempts: requests made.
            remedy: what a person should do, instead of the meaning of the failure's class.
        """
        words = self._clean(evidence.text)
        evidence = replace(evidence, text=words)
        server = self.server_of(channel)
        if evidence.bad_credentials and evidence.scope is Scope.INSTANCE:
            # Another chip's key may well be right: this is not the whole server's trouble.
            server = f"{server}#{channel.chip_id}"
        failure = classify(evidence)
        status = f"HTTP {evidence.status}: " if evidence.status is not None else ""
        message = (
            f"{self.name} did not {asked} for chip {mask_phone(channel.phone)}: "
            f"{status}{words or 'no words'} [{failure}: {remedy or _MEANING[failure]}]"
        )
        return GatewayError(self._redactor.text(message), evidence=evidence, server=server, attempts=attempts)

    def _silent(self, channel: Channel, asked: str, silence: Silence) -> GatewayError:
        return self._error(
            channel,
            asked,
            evidence_of(silence, silence.words),
            attempts=silence.attempts,
            remedy="it was not attempted" if silence.attempts == 0 else "",
        )

    def _unreadable(self, channel: Channel, asked: str, answer: Answer, why: str) -> GatewayError:
        """Return the error of a 2xx whose body says nothing: the gateway may have acted."""
        evidence = Evidence(
            Stage.AFTER_WRITE, status=answer.status, text=f"{why}: {answer.text()[:200] or 'empty'}"
        )
        return self._error(channel, asked, evidence, attempts=answer.attempts)

    def _listing(self, channel: Channel, asked: str, answer: Answer, of: str) -> list[Any]:
        """Return the list that an answer is.

        Raises:
            GatewayError: it is none.
        """
        parsed, problem = answer.parsed()
        if not isinstance(parsed, list):
            raise self._unreadable(channel, asked, answer, f"no list of {of} in the answer") from safe_cause(
                problem, self._redactor
            )
        return parsed

    async def _ask(self, link: Link, channel: Channel, asked: str, call: Call) -> Answer:
        """Make a call and return the answer, whatever its status.

        Raises:
            GatewayError: no answer that can be read came.
        """
        reply = await link.ask(call, instance=channel.instance)
        if isinstance(reply, Silence):
            raise self._silent(channel, asked, reply) from safe_cause(reply.cause, self._redactor)
        return reply

    def _not_set(self, channel: Channel, asked: str, remedy: str, *, scope: Scope) -> GatewayError:
        """Return the error of a call that was not made because something is not set."""
        evidence = Evidence(Stage.ANSWERED, text="no request was made", bad_credentials=True, scope=scope)
        return self._error(channel, asked, evidence, attempts=0, remedy=remedy)


def encode(body: object) -> bytes:
    """Return a JSON body's bytes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def png_of(value: object) -> bytes | None:
    """Return the picture in a gateway's base64, with or without its data URI prefix; ``None`` for no PNG."""
    if not isinstance(value, str):
        return None
    try:
        data = base64.b64decode(value.rpartition(",")[2], validate=True)
    except ValueError:
        return None
    return data if data.startswith(b"\x89PNG") else None
