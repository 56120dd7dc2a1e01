"""What the two gateway clients share: the wording of failures, headers, and what an answer must be.

Holds: building a :class:`~warmup_pipeline.gateways.base.GatewayError` that shows no secret and no phone.
Do not add: paths, bodies, a gateway's wording (``evolution``, ``zapi``), sockets (``link``).

Source: domain.md, "Failures".
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from warmup_pipeline.domain.failures import Evidence, Scope, Stage, classify
from warmup_pipeline.domain.privacy import Redactor, mask_phone
from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import Channel, GatewayError, Trace
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.link import READ_WORDS, Answer, Call, Link, Silence, evidence_of

SECRET_HEADER: Final = "X-Warmup-Secret"  # noqa: S105 (a name)
SECRET_PARAMETER: Final = "key"  # noqa: S105 (a name)
"""How a webhook brings the operator's secret: a header, or a parameter where it can send none."""

MayBegin = Callable[[Channel, str], bool]
"""Whether a call of a chip, to the server of this key, is wanted still."""

_SHOWN_WORDS: Final = 300


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
        may_begin: asked of a call whose turn has come, with its chip and its server's key: whether it is wanted still.
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
        may_begin: MayBegin | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._redactor = redactor
        self._simulated = simulated
        self._at = at
        self._may_begin = may_begin
        self._at_told = "" if at is None else at.astimezone(UTC).isoformat()

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
            headers["X-Warmup-At"] = (
                self._at_told if logical is self._at else logical.astimezone(UTC).isoformat()
            )
        return headers

    def _clean(self, text: str) -> str:
        """Return text of a gateway as one short line that may be shown."""
        cut = text[:READ_WORDS]
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
        failure = classify(evidence)
        # Judged by all its words; kept are the first of them, clean.
        words = self._clean(evidence.text)
        evidence = replace(evidence, text=words)
        server = self.server_of(channel)
        if evidence.bad_credentials and evidence.scope is Scope.INSTANCE:
            # Another chip's key may well be right: this is not the whole server's trouble.
            server = f"{server}#{channel.chip_id}"
        status = f"HTTP {evidence.status}: " if evidence.status is not None else ""
        message = (
            f"{self.name} did not {asked} for chip {mask_phone(channel.phone)}: "
            f"{status}{words or 'no words'} [{failure}: {remedy or _MEANING[failure]}]"
        )
        return GatewayError(
            self._redactor.text(message), evidence=evidence, failure=failure, server=server, attempts=attempts
        )

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
        wanted = self._may_begin
        may_begin = None if wanted is None else lambda: wanted(channel, self.server_of(channel))
        reply = await link.ask(call, instance=channel.instance, may_begin=may_begin)
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
