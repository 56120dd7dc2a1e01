"""The way to one gateway server: deadlines, turns, and how far a request came.

Holds: what every call goes through: the 10 seconds that one request may take in all, the one retry, the
queue per instance, the pace. A call ends as an :class:`Answer` or as a :class:`Silence`, which says how far
it came. Do not add: sockets (``sockets``), headers, paths, wording of errors (``http``, ``evolution``, ``zapi``).

Source: domain.md, "Failures": 10 s; at most one retry, and only where the gateway certainly did not
act; a request that was written and not answered is unknown and never sent again.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from warmup_pipeline.domain.failures import Evidence, Stage, may_retry

TransportFactory = Callable[[], httpx.AsyncBaseTransport]

DEADLINE_S: Final = 10.0
"""Seconds one request may take in all, from connecting to the last byte of the answer."""
CONNECT_S: Final = 5.0
"""Seconds of them that connecting may take."""
RETRY_PAUSE_S: Final = 0.5
"""Seconds before the one retry where the gateway named none."""
MAX_ANSWER: Final = 1_000_000
"""Bytes of answer that are read: no answer this project asks for comes near it."""

_ASK_AGAIN_S: Final = 1.0
"""Seconds after which one that waits for its turn asks again whether it is wanted."""

READ_WORDS: Final = 4_000
"""Characters of an answer that are looked at where it is shown."""
_LONGEST_RETRY_AFTER: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How patient and how busy a link may be.

    Attributes:
        deadline: seconds one request may take in all.
        retry_pause: seconds before the one retry where the gateway named none.
        connections: requests in flight at one server at the same time.
        per_second: requests that may begin at one server in a second, evenly spaced; ``None``: as many as come.
        per_second_each: the same of each instance.
        not_after: event-loop time by which everything must have ended (the step's own end);
            ``None`` for no end. A request that could not have its whole deadline before it is not
            begun: cut short it would only make an unknown outcome.
    """

    deadline: float = DEADLINE_S
    retry_pause: float = RETRY_PAUSE_S
    connections: int = 100
    per_second: float | None = None
    per_second_each: float | None = None
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
        retry_after: seconds the gateway asked to wait, ``None`` if it did not, or did what was asked.
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
        return self.body[: 4 * READ_WORDS].decode("utf-8", errors="replace")


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

_NOT_MADE: Final = Silence(
    Stage.BEFORE_WRITE, "the step ends too soon for a whole request: none was made", attempts=0
)
_NOT_WANTED: Final = Silence(
    Stage.BEFORE_WRITE, "it was not wanted any more when its turn came: no request was made", attempts=0
)


_EMPTY: Final = httpx.ByteStream(b"")


@functools.lru_cache(maxsize=4096)
def _parsed(url: str) -> httpx.URL:
    """Return an address taken apart: each chip's few are asked for again in every cycle."""
    return httpx.URL(url)


@functools.lru_cache(maxsize=256)
def _headers(items: tuple[tuple[str, str], ...]) -> httpx.Headers:
    """Return headers made ready: most requests of a step have the same ones. A request copies them."""
    return httpx.Headers(items)


def _request(call: Call, host: str, extensions: dict[str, Any]) -> httpx.Request:
    """Return a call as a request of its own."""
    url = _parsed(call.url)
    if call.body is None and call.method == "GET":
        # Most requests, of every chip in every cycle. Nothing has to be worked out for them, which httpx
        # does anew for each that is not given its stream.
        headers = _headers((("Host", host), *call.headers.items()))
        return httpx.Request("GET", url, headers=headers, stream=_EMPTY, extensions=extensions)
    headers = _headers(tuple(call.headers.items()))
    return httpx.Request(call.method, url, headers=headers, content=call.body, extensions=extensions)


def _sockets(*, secure: bool) -> httpx.AsyncBaseTransport:
    # Neither loading the code location nor a time-lapse needs aiohttp, which takes a while to load.
    from warmup_pipeline.gateways.sockets import SocketTransport

    return SocketTransport(secure=secure)


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
            info.get("exception"), httpx.WriteError
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


class _Turn:
    """Holds a gate while a request is made, or raises :class:`_TooLateError`.

    Args:
        gate: whose turn is waited for.
        latest: event-loop time after which no request may begin; ``None`` for no end.
    """

    def __init__(self, gate: asyncio.Lock | asyncio.Semaphore, latest: float | None) -> None:
        self._gate = gate
        self._latest = latest

    async def __aenter__(self) -> None:
        if self._gate.locked():
            try:
                async with asyncio.timeout_at(self._latest):
                    await self._gate.acquire()
            except TimeoutError:
                raise _TooLateError from None
        else:
            # Nobody has to be waited for, or one who was just called.
            await self._gate.acquire()
        if self._latest is not None and asyncio.get_running_loop().time() > self._latest:
            self._gate.release()
            raise _TooLateError

    async def __aexit__(self, *_: object) -> None:
        self._gate.release()


async def _pass(seconds: float, may_begin: Callable[[], bool] | None) -> None:
    """Let time pass, or as much of it as somebody wants a request still that waits for it."""
    while seconds > 0 and (may_begin is None or may_begin()):
        some = min(seconds, _ASK_AGAIN_S)
        await asyncio.sleep(some)
        seconds -= some


class _Spacing:
    """Lets requests begin evenly, at most so many in a second of the event loop's time.

    Args:
        per_second: how many; ``None``: each as it comes.
    """

    def __init__(self, per_second: float | None) -> None:
        self._gap = 0.0 if per_second is None else 1 / per_second
        self._next = 0.0

    async def wait(self, latest: float | None, may_begin: Callable[[], bool] | None = None) -> None:
        """Wait for the next turn, or until nobody wants it any more; whoever asks first has the first.

        Raises:
            _TooLateError: it would come after ``latest``; no turn is taken.
        """
        if not self._gap:
            return
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        if latest is not None and at > latest:
            raise _TooLateError
        self._next = at + self._gap
        await _pass(at - now, may_begin)

    def began(self) -> None:
        """Note that a request began now, if it was held up since its turn: the next one keeps its distance."""
        if self._gap:
            self._next = max(self._next, asyncio.get_running_loop().time() + self._gap)


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
        url = _parsed(base_url)
        self.host: Final = url.netloc.decode("ascii")
        # A transport, not a client: that would keep a gateway's cookies from one chip's account for
        # another's, follow redirects with credentials, and log every address.
        self._transport = transport_factory() if transport_factory else _sockets(secure=url.scheme == "https")
        self._server = asyncio.Semaphore(limits.connections)
        self._instances: dict[str, asyncio.Lock] = {}
        self._pace = _Spacing(limits.per_second)
        self._paces: dict[str, _Spacing] = {}
        self._latest_start = None if limits.not_after is None else limits.not_after - limits.deadline
        self._timeouts = {
            "connect": min(CONNECT_S, limits.deadline),
            # What a request takes in all is bounded by one deadline.
            "read": None,
            "write": None,
            "pool": None,
        }

    def url(self, path: str) -> str:
        """Return the address of ``path``, which begins with a slash."""
        return self._base + path

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def ask(self, call: Call, *, instance: str, may_begin: Callable[[], bool] | None = None) -> Reply:
        """Make a request, and one retry where the gateway certainly did not act.

        Requests of one instance go one after another; a slow one holds back no other instance, nor does one
        that waits for its own turn.

        Args:
            call: what is asked.
            instance: whose turn is waited for.
            may_begin: asked when its turn has come, and before the retry: whether it is wanted still.
        """
        lock = self._instances.setdefault(instance, asyncio.Lock())
        own = self._paces.setdefault(instance, _Spacing(self._limits.per_second_each))
        reply: Reply = _NOT_MADE
        try:
            async with _Turn(lock, self._latest_start):
                for attempt in (1, 2):
                    await own.wait(self._latest_start, may_begin)
                    # The server's turn is given back while waiting: another instance can use it.
                    async with _Turn(self._server, self._latest_start):
                        await self._pace.wait(self._latest_start, may_begin)
                        if may_begin is not None and not may_begin():
                            reply = _NOT_WANTED if attempt == 1 else reply
                            break
                        own.began()
                        reply = await self._attempt(call)
                    if attempt == 2:
                        reply = replace(reply, attempts=attempt)
                        break
                    if isinstance(reply, Answer) and reply.success:
                        break
                    if not await self._wait_for_retry(reply, may_begin):
                        break
        except _TooLateError:
            pass
        return reply

    async def _wait_for_retry(self, reply: Reply, may_begin: Callable[[], bool] | None) -> bool:
        evidence = evidence_of(reply)
        if not may_retry(evidence):
            return False
        pause = max(self._limits.retry_pause, evidence.retry_after or 0.0)
        if self._latest_start is None:
            fits = pause <= max(self._limits.deadline, self._limits.retry_pause)
        else:
            fits = asyncio.get_running_loop().time() + pause <= self._latest_start
        if fits:
            await _pass(pause, may_begin)
        return fits

    async def _attempt(self, call: Call) -> Reply:
        progress = _Progress()
        request = _request(call, self.host, {"timeout": self._timeouts, "trace": progress})
        status: int | None = None
        retry_after: float | None = None
        body = bytearray()
        try:
            # The transport's own timeouts begin anew with every byte; this one does not.
            async with asyncio.timeout(self._limits.deadline):
                response = await self._transport.handle_async_request(request)
                status = response.status_code
                if not 200 <= status < 300:
                    retry_after = _retry_after(response.headers)
                if response.is_stream_consumed and len(response.content) <= call.max_bytes:
                    # It came whole, from a gateway in this process.
                    return Answer(status, response.content, retry_after)
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
    if not value:
        return None
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
