"""The words of the domain: every enum whose values stand in the database.

Holds: chip statuses, phases, states of activities and messages, providers, trust levels, and the
sets of them that rules speak about. Add here: a new value of one of these words (with a
migration). Do not add: rules, numbers (they are policy), activity executors (they register
themselves in ``warmup.activities``).

Source: domain.md, "Words and values". The values are stored as written here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ChipStatus(StrEnum):
    """Where a chip stands in its life. Root cause 1 was a status outside this list."""

    PROVISIONED = "provisioned"
    PENDING = "pending"
    WARMING = "warming"
    READY = "ready"
    ACTIVE = "active"
    DEGRADED = "degraded"
    PAUSED = "paused"
    BANNED = "banned"
    CANCELLED = "cancelled"


PARTICIPATING_STATUSES: Final = frozenset({ChipStatus.WARMING, ChipStatus.READY, ChipStatus.ACTIVE})
"""Statuses that take part in warm-up (unless the chip's role is :data:`LISTENER_ROLE`)."""

OBSERVED_STATUSES: Final = PARTICIPATING_STATUSES | {ChipStatus.DEGRADED}
"""Statuses whose gateway connection is watched each cycle."""

UNAGED_STATUSES: Final = frozenset({ChipStatus.PROVISIONED, ChipStatus.PENDING})
"""Statuses that have no warming day yet."""

LISTENER_ROLE: Final = "listener"
"""A chip with this role never takes part in warm-up."""

DEFAULT_ROLE: Final = "julia"
DEFAULT_POOL: Final = "default"


class Phase(StrEnum):
    """The steps of warm-up, in order of definition."""

    REPOUSO = "repouso"
    SETUP = "setup"
    PRIMEIROS_CONTATOS = "primeiros_contatos"
    EXPANSAO = "expansao"
    PRE_OPERACAO = "pre_operacao"
    TESTE_GRADUACAO = "teste_graduacao"
    OPERACAO = "operacao"

    @property
    def rank(self) -> int:
        """Position in the order of phases, 0 for ``repouso``."""
        return PHASE_ORDER.index(self)

    @property
    def next(self) -> Phase | None:
        """The phase that follows, or ``None`` after ``operacao``."""
        following = self.rank + 1
        return PHASE_ORDER[following] if following < len(PHASE_ORDER) else None


PHASE_ORDER: Final = tuple(Phase)

EARLY_PHASES: Final = frozenset({Phase.SETUP, Phase.PRIMEIROS_CONTATOS})
"""Phases in which conversations stay short (2-4 turns)."""

CONVERSA_PAR: Final = "CONVERSA_PAR"
ENVIAR_MIDIA: Final = "ENVIAR_MIDIA"
MARCAR_LIDO: Final = "MARCAR_LIDO"

LEGACY_ACTIVITY_TYPES: Final = ("ENTRAR_GRUPO", "MENSAGEM_GRUPO", "ATUALIZAR_PERFIL")
"""Words of the old system's data that have no executor: known, importable, never planned."""

KNOWN_ACTIVITY_TYPES: Final = (CONVERSA_PAR, ENVIAR_MIDIA, MARCAR_LIDO, *LEGACY_ACTIVITY_TYPES)
"""Types that an import may bring. Executable ones are whatever the executor registry holds."""


class ActivityState(StrEnum):
    """States of one planned opening or marking. Everything but the first two is final."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    EXECUTED = "executed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    NOTHING_TO_DO = "nothing_to_do"


OPEN_ACTIVITY_STATES: Final = frozenset({ActivityState.PLANNED, ActivityState.CLAIMED})


class MessageState(StrEnum):
    """States of one turn whose HTTP call began, or is about to."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    AT_WHATSAPP = "at_whatsapp"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"


MESSAGE_SCALE: Final = (
    MessageState.SENDING,
    MessageState.ACCEPTED,
    MessageState.AT_WHATSAPP,
    MessageState.DELIVERED,
    MessageState.READ,
)
"""The delivery scale a message only ever moves up (gateway-contract.md 3.1)."""

ACCEPTED_STATES: Final = frozenset(MESSAGE_SCALE[1:])
CONFIRMED_STATES: Final = frozenset({MessageState.DELIVERED, MessageState.READ})
LIMIT_STATES: Final = ACCEPTED_STATES | {MessageState.SENDING, MessageState.UNKNOWN}
"""Message states that count against hour and day limits (domain.md, "Pre-send validation")."""


class MessageKind(StrEnum):
    """What a turn carries."""

    TEXT = "text"
    PICTURE = "picture"
    AUDIO = "audio"


MEDIA_KINDS: Final = frozenset({MessageKind.PICTURE, MessageKind.AUDIO})


class ConversationState(StrEnum):
    """``opening`` until the first turn is accepted, then ``open``, then ``closed``."""

    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class Provider(StrEnum):
    """The HTTP gateway a chip is reached through."""

    EVOLUTION = "evolution"
    Z_API = "z-api"


class TrustLevel(StrEnum):
    """Bands of the trust score, best first."""

    VERDE = "verde"
    AMARELO = "amarelo"
    LARANJA = "laranja"
    VERMELHO = "vermelho"
    CRITICO = "critico"


class ConnectionState(StrEnum):
    """What a gateway says of a chip's session."""

    OPEN = "open"
    CONNECTING = "connecting"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class CircuitState(StrEnum):
    """The breaker of one chip's own sending channel."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class FailureClass(StrEnum):
    """Why a send did not succeed (domain.md, "Failures"; first match decides)."""

    UNKNOWN = "unknown"
    RECIPIENT = "recipient"
    DISCONNECTED = "disconnected"
    RATE_LIMITED = "rate_limited"
    GATEWAY = "gateway"
    RESTRICTION = "restriction"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    BUG = "bug"
    """Our own code raised: never a gateway's answer, and the step fails with its traceback."""


class Decision(StrEnum):
    """What pre-send validation says of one send."""

    APPROVE = "approve"
    DEFER = "defer"
    BLOCK = "block"


class RowSource(StrEnum):
    """Where a row comes from: our own cycles, or an import's history."""

    WARMUP = "warmup"
    IMPORT = "import"


class ClockKind(StrEnum):
    """``system``: the pool lives in real time. ``stepped``: five minutes pass per cycle run."""

    SYSTEM = "system"
    STEPPED = "stepped"


class HealthStatus(StrEnum):
    """The pool's health, best first (domain.md, "Health")."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
