"""What a cycle came to, in one line.

Holds: :func:`cycle_story`. Do not add: counting (the steps do, and keep it in the cycle's row).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from warmup_pipeline.store.cycles import Cycle

_REASONS: Final = 2


def cycle_story(cycle: Cycle) -> str:
    """Return what a cycle came to: sends, failures, what was put off and the first reasons, phase changes."""
    sends, judged = _of(cycle, "send_messages"), _of(cycle, "validate_sends")
    moved = _of(cycle, "derive_phase_transitions")
    connected = _of(cycle, "refresh_connections")
    parts = [f"{sends.get('sent', 0)} sent"]
    parts += [f"{sends[name]} {name}" for name in ("failed", "unknown") if sends.get(name)]
    for decision in ("deferred", "blocked"):
        if judged.get(decision):
            reasons = sorted(
                judged.get(f"{decision}_by_reason", {}).items(), key=lambda one: (-one[1], one[0])
            )
            told = ", ".join(code for code, _ in reasons[:_REASONS])
            parts.append(
                f"{judged[decision]} {decision} ({told})" if told else f"{judged[decision]} {decision}"
            )
    parts += [f"{moved[name]} {name}" for name in ("transitions", "degraded", "returned") if moved.get(name)]
    parts += [f"{connected['recovered']} recovered"] if connected.get("recovered") else []
    return ", ".join(parts)


def _of(cycle: Cycle, step: str) -> Mapping[str, Any]:
    found = cycle.counts.get(step)
    return found if isinstance(found, Mapping) else {}
