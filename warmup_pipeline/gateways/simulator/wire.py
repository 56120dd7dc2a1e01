"""What goes in and out of the simulator, free of any transport.

Holds: :class:`Request`, :class:`Reply`, :class:`Wire` (how the answer travels, or does not) and the
helpers that build replies. Add here: another way in which an answer can misbehave on the wire. Do
not add: sockets (``server``), a gateway's bodies (``evolution``, ``zapi``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

JSON_TYPE: Final = "application/json; charset=utf-8"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: upper case.
        path: path as sent, percent-encoded, without the query.
        query: decoded query parameters (the last of a repeated one).
        headers: by lower-case name.
        body: the whole body.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Wire:
    """How an answer travels. All of it is the transport's to act out.

    Attributes:
        delay_ms: wait before the first byte (simulated latency, ``delay`` of a send, a hang).
        reset: tear the TCP connection down (RST) instead of answering. ``before``: nothing was
            accepted; ``after``: the request was acted on first.
        drip_bytes_per_s: send the body this slowly.
        truncate_at: announce the whole length, send only so many bytes, then drop the connection.
    """

    delay_ms: float = 0.0
    reset: Literal["before", "after"] | None = None
    drip_bytes_per_s: float | None = None
    truncate_at: int | None = None


PLAIN: Final = Wire()
"""An answer that travels as it should."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer and how it travels."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    wire: Wire = PLAIN

    def delayed(self, milliseconds: float) -> Reply:
        """Return this reply with ``milliseconds`` more before its first byte."""
        if not milliseconds:
            return self
        return replace(self, wire=replace(self.wire, delay_ms=self.wire.delay_ms + milliseconds))


_JSON_HEADERS: Final[Mapping[str, str]] = {"Content-Type": JSON_TYPE}
_NO_HEADERS: Final[Mapping[str, str]] = {}


def json_reply(status: int, document: Any) -> Reply:
    """Return a JSON answer."""
    return Reply(status, _JSON_HEADERS, _ENCODER.encode(document).encode())


def empty_reply(status: int) -> Reply:
    """Return an answer without a body."""
    return Reply(status, _NO_HEADERS, b"")


def dumps(document: Any) -> str:
    """Return JSON as the simulator stores and sends it: compact, not escaped."""
    return _ENCODER.encode(document)
