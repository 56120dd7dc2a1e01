"""Faults: what the simulator can be told to do wrong, and to whom.

Holds: :class:`FaultRule` (validated, as posted to ``/_sim/faults``), :class:`FaultBook` (which rule
strikes a request) and the effect of each kind on an answer. Add here: a kind of fault and its
effect. Do not add: a gateway's error bodies (``evolution_bodies``, ``zapi_bodies``: they are asked
for by name).

Chances are drawn from the seed, the rule and a count per rule and instance: two runs in which each
instance makes the same requests are struck the same way, whatever order instances come in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import ids
from warmup_pipeline.gateways.simulator.state import State
from warmup_pipeline.gateways.simulator.wire import JSON_TYPE, Reply, Wire, dumps

Route = Literal["state", "text", "media", "audio", "read", "restart", "connect", "other"]
"""What a gateway route is for, as rules name it. ``connect`` covers QR codes and restore-session."""

SEND_ROUTES: Final = frozenset({"text", "media", "audio"})

Kind = Literal[
    "latency",
    "status",
    "hang",
    "reset_before",
    "reset_after",
    "malformed_json",
    "wrong_content_type",
    "huge_body",
    "slow_drip",
    "truncated",
    "ok_with_error",
    "disconnected",
    "lost",
]

BodyName = Literal[
    "restriction",
    "connection_closed_500_string",
    "connection_closed_400_array",
    "connection_closed_500_array",
    "rate_overlimit",
    "validation",
    "not_on_whatsapp",
    "unauthorized",
    "instance_not_found",
    "generic",
]

_ACTED_ON: Final = frozenset(
    {"reset_after", "malformed_json", "wrong_content_type", "huge_body", "slow_drip", "truncated"}
)
"""Kinds that spoil the answer of a request that was acted on, unless the rule says otherwise."""
_ALONGSIDE: Final = frozenset({"latency", "lost", "disconnected"})
"""Kinds that leave the answer to the gateway, so that another rule may strike as well."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class FaultMatch(BaseModel):
    """Which requests a rule is about; what is not given matches everything.

    Attributes:
        provider: one gateway.
        instance: an instance's name, or a list of names.
        route: one of :data:`Route`, ``any-send`` (text, media, audio) or ``any``; or a list of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider | None = None
    instance: Annotated[frozenset[str] | None, BeforeValidator(_as_list)] = None
    route: Annotated[frozenset[Route | Literal["any-send", "any"]], BeforeValidator(_as_list)] = frozenset(
        {"any"}
    )

    def covers(self, provider: str, instance: str, route: str) -> bool:
        """Whether a request is one of those meant."""
        if self.provider is not None and self.provider.value != provider:
            return False
        if self.instance is not None and instance not in self.instance:
            return False
        return (
            "any" in self.route or route in self.route or ("any-send" in self.route and route in SEND_ROUTES)
        )


class FaultRule(BaseModel):
    """One rule: whom it strikes, how often, and what happens.

    Attributes:
        match: which requests.
        kind: what happens. ``latency``: the answer is late. ``status``: an error instead of acting.
            ``hang``: no answer for a while. ``reset_before`` / ``reset_after``: TCP reset without, or
            after, acting. ``malformed_json``, ``wrong_content_type``, ``huge_body``, ``slow_drip``,
            ``truncated``: the answer is spoiled. ``ok_with_error``: a success status that carries an
            error. ``disconnected``: the instance's session drops before the request is handled.
            ``lost``: accepted, never delivered.
        probability: chance of each matching request to be struck.
        times: stop after so many hits; ``None`` for no end.
        ms: milliseconds of ``latency``.
        seconds: length of a ``hang``; afterwards the answer comes, or a reset if it was not acted on.
        code: HTTP status of ``status`` (default: the body's own) or of ``ok_with_error``.
        body: for ``status``: the name of a body of the contract, or a JSON object sent as it is.
        retry_after: seconds, sent as the ``Retry-After`` header of a ``status``.
        bytes: size of a ``huge_body``; where a ``truncated`` answer ends.
        bytes_per_second: speed of a ``slow_drip``.
        accepted: whether the gateway acts on the request all the same. Default by kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: FaultMatch = FaultMatch()
    kind: Kind
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    times: int | None = Field(default=None, ge=1)
    ms: float = Field(default=1000.0, ge=0.0, le=3_600_000.0)
    seconds: float = Field(default=30.0, ge=0.0, le=3600.0)
    code: int | None = Field(default=None, ge=200, le=599)
    body: BodyName | dict[str, Any] = "generic"
    retry_after: int | None = Field(default=None, ge=0)
    bytes: int = Field(default=5_000_000, ge=1, le=100_000_000)
    bytes_per_second: float = Field(default=100.0, gt=0.0)
    accepted: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "status" and self.code is None and self.body == "generic":
            raise ValueError("a status fault needs a code or the name of a body")
        if self.accepted and self.kind in ("reset_before", "disconnected", "lost", "latency"):
            raise ValueError(f"accepted says nothing about {self.kind}")
        return self

    @property
    def acts(self) -> bool:
        """Whether the gateway acts on a request this rule strikes."""
        if self.kind in _ALONGSIDE:
            return True
        return self.accepted if self.accepted is not None else self.kind in _ACTED_ON

    @property
    def alongside(self) -> bool:
        """Whether the rule leaves the answer itself alone."""
        return self.kind in _ALONGSIDE


class FaultOrder(BaseModel):
    """Body of ``POST /_sim/faults``: ``rules`` replaces all rules, ``add`` adds to them."""

    model_config = ConfigDict(extra="forbid")

    rules: list[FaultRule] | None = None
    add: list[FaultRule] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.rules is None) == (self.add is None):
            raise ValueError('give either "rules" (or a bare list), or "add"')
        return self


@dataclass(frozen=True, slots=True)
class Strike:
    """What the rules make of one request.

    Attributes:
        rule: the rule that decides its answer, ``None`` if the gateway does.
        latency_ms: what the answer is late by.
        lost: its message never arrives.
        disconnected: its instance's session drops first.
    """

    rule: FaultRule | None = None
    latency_ms: float = 0.0
    lost: bool = False
    disconnected: bool = False


UNSTRUCK: Final = Strike()
_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>It works</h1></body></html>"
)
_GENERATION: Final = "fault_generation"


class FaultBook:
    """The rules in force, kept in the simulator's state so that processes which share it agree."""

    def __init__(self, state: State, seed: int) -> None:
        self._state = state
        self._seed = seed
        self._generation = -1
        self._rules: list[tuple[int, FaultRule]] = []

    def rules(self) -> list[tuple[int, FaultRule]]:
        """Return the rules in force with their ids, oldest first."""
        generation = self._state.counter(_GENERATION)
        if generation != self._generation:
            self._rules = [
                (fault_id, FaultRule.model_validate_json(rule)) for fault_id, rule in self._state.faults()
            ]
            self._generation = generation
        return self._rules

    def replace(self, rules: list[FaultRule]) -> None:
        """Put these rules in place of all."""
        self._state.clear_faults()
        self.add(rules)

    def add(self, rules: list[FaultRule]) -> None:
        """Add rules to those in force."""
        for rule in rules:
            self._state.add_fault(rule.model_dump_json(exclude_defaults=True))
        self.touch()

    def touch(self) -> None:
        """Tell every process that the rules are to be read anew."""
        self._state.increase(_GENERATION)

    def strike(self, provider: str, instance: str, route: str) -> Strike:
        """Return what happens to a request, and count it.

        Late, lost and dropped add up; of the rules that decide the answer the first that strikes wins.
        """
        rules = self.rules()
        if not rules:
            return UNSTRUCK
        strike = UNSTRUCK
        for fault_id, rule in rules:
            if strike.rule is not None and not rule.alongside:
                continue
            if not rule.match.covers(provider, instance, route):
                continue
            if not self._hits(fault_id, rule, instance):
                continue
            if rule.kind == "latency":
                strike = replace(strike, latency_ms=strike.latency_ms + rule.ms)
            elif rule.kind == "lost":
                strike = replace(strike, lost=True)
            elif rule.kind == "disconnected":
                strike = replace(strike, disconnected=True)
            else:
                strike = replace(strike, rule=rule)
        return strike

    def _hits(self, fault_id: int, rule: FaultRule, instance: str) -> bool:
        if rule.times is not None and self._state.fault_totals(fault_id)[1] >= rule.times:
            return False
        if rule.probability < 1.0:
            turn = self._state.count_match(fault_id, instance)
            if ids.fraction(self._seed, "fault", fault_id, instance, turn) >= rule.probability:
                return False
        self._state.count_hit(fault_id, instance)
        return True


def spoil(rule: FaultRule, answer: Reply | None, ok_with_error: Reply) -> Reply:
    """Return the answer of a struck request.

    Args:
        rule: the rule that struck; not of kind ``status`` (that answer is the gateway's to word).
        answer: the gateway's own answer if it acted, else ``None``.
        ok_with_error: the gateway's way of saying "success" and an error at once.
    """
    if rule.kind in ("reset_before", "reset_after"):
        return _reset(answer)
    if rule.kind == "hang":
        late = answer if answer is not None else _reset(None)
        return late.delayed(rule.seconds * 1000)
    if rule.kind == "ok_with_error":
        return ok_with_error if rule.code is None else replace(ok_with_error, status=rule.code)
    base = answer if answer is not None else ok_with_error
    if rule.kind == "malformed_json":
        return replace(base, body=base.body[: max(1, len(base.body) // 2)] or b'{"')
    if rule.kind == "wrong_content_type":
        return replace(base, headers={"Content-Type": "text/html; charset=utf-8"}, body=_PAGE)
    if rule.kind == "huge_body":
        return replace(base, headers={"Content-Type": JSON_TYPE}, body=_padded(base.body, rule.bytes))
    if rule.kind == "slow_drip":
        return replace(base, wire=replace(base.wire, drip_bytes_per_s=rule.bytes_per_second))
    return replace(base, wire=replace(base.wire, truncate_at=min(rule.bytes, max(0, len(base.body) - 1))))


def _reset(answer: Reply | None) -> Reply:
    return Reply(0, {}, b"", Wire(reset="before" if answer is None else "after"))


def _padded(body: bytes, size: int) -> bytes:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {"body": document}
    return dumps({**document, "padding": "x" * size}).encode()
