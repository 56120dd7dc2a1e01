"""Acting out a fault profile on the simulator as virtual time passes.

Holds: :class:`Weather`. Do not add: what a profile says (``profiles``), what a fault does to an
answer (``gateways.simulator``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.faults import FaultRule
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance
from warmup_pipeline.gateways.simulator.wire import Request
from warmup_pipeline.warmup.timelapse.profiles import Strike


class Weather:
    """Lets episodes begin and end at the right time.

    Args:
        core: the simulator.
        instances: the chips that episodes may name, in their order.
        strikes: when what strikes whom.
        hosts: host name of each gateway, as the transport knows it.
        unreachable: the transport's set of hosts that refuse connections; changed in place.
    """

    def __init__(
        self,
        core: SimulatorCore,
        instances: Sequence[SimulatedInstance],
        strikes: Sequence[Strike],
        *,
        hosts: Mapping[Provider, str],
        unreachable: set[str],
    ) -> None:
        self._core = core
        self._instances = instances
        self._strikes: list[Strike] = []
        self._hosts = hosts
        self._unreachable = unreachable
        self._rules: list[dict[str, Any]] = []
        self._zombies: set[str] = set()
        self.add(strikes)

    def add(self, strikes: Sequence[Strike]) -> None:
        """Let more happen; what should have begun already begins with the next tick."""
        self._strikes += strikes
        self._edges = sorted({at for s in self._strikes for at in (s.begins_at, s.ends_at) if at is not None})
        self.is_certain = not any(
            rule.probability < 1.0 and not rule.match.route <= _SENDS
            for strike in self._strikes
            for rule in strike.episode.rules
        )
        """No chance is drawn where the gateways are merely asked, so asking less often changes nothing."""

    def next_edge(self, after: datetime) -> datetime | None:
        """Return when next an episode begins or ends."""
        return next((at for at in self._edges if at > after), None)

    def come_to(self, at: datetime) -> None:
        """Let what is due at an instant begin and end."""
        on = [strike for strike in self._strikes if strike.is_on(at)]
        self._unreachable.clear()
        self._unreachable.update(self._hosts[p] for s in on for p in s.episode.unreachable)
        rules = [rule for strike in on for rule in self._rules_of(strike)]
        if rules != self._rules:
            self._post("/_sim/faults", {"rules": rules})
            self._rules = rules
        self._haunt({one.name for s in on if s.episode.zombie for one in self._all_struck(s)})

    def _all_struck(self, strike: Strike) -> Sequence[SimulatedInstance]:
        one_of_some = strike.chip is not None and bool(self._instances)
        return [self._struck(strike)] if one_of_some else self._instances

    def _struck(self, strike: Strike) -> SimulatedInstance:
        return self._instances[(strike.chip or 0) % len(self._instances)]

    def _rules_of(self, strike: Strike) -> list[dict[str, Any]]:
        found = list(strike.episode.rules)
        if strike.episode.down:
            found.append(FaultRule(kind="disconnected"))
        named = [rule.model_dump(mode="json", exclude_defaults=True) for rule in found]
        if strike.chip is not None and self._instances:
            struck = self._struck(strike)
            for rule in named:
                rule["match"] = rule.get("match", {}) | {
                    "provider": struck.provider.value,
                    "instance": [struck.name],
                }
        return named

    def _haunt(self, zombies: set[str]) -> None:
        changed = [one for one in self._instances if (one.name in zombies) != (one.name in self._zombies)]
        if changed:
            self._core.declare(
                (one.model_copy(update={"zombie": one.name in zombies}) for one in changed), overwrite=True
            )
            self._zombies = zombies

    def _post(self, path: str, document: Any) -> None:
        reply = self._core.handle(Request("POST", path, body=json.dumps(document, default=sorted).encode()))
        if reply.status != 200:
            raise RuntimeError(f"the simulator refused {path}: {reply.body.decode()}")


_SENDS = frozenset({"any-send", "text", "media", "audio", "read"})
