"""Both gateways, opened for one step and closed with it.

Holds: :class:`GatewayHub`. Add here: another gateway's registration. Do not add: requests
(``http``), a gateway's bodies (``evolution``, ``zapi``).

Source: domain.md, root cause 5 ("Event loop is closed"): HTTP clients live inside one event loop,
for one step.
"""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Self

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.base import Gateway
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.evolution import Evolution
from warmup_pipeline.gateways.http import MayBegin
from warmup_pipeline.gateways.link import DEADLINE_S, RETRY_PAUSE_S, Link, LinkLimits, TransportFactory
from warmup_pipeline.gateways.zapi import ZApi


class GatewayHub:
    """The gateways of one step: an async context manager for one event loop.

    Requests of one instance go one after another, those of one server up to a number at a time, and
    a slow instance never holds back another.

    Args:
        settings: addresses and secrets; the redactor learns the secrets.
        redactor: takes secrets and phones out of every text.
        simulated: whether the gateways are the simulator, which is told of our messages and times.
        not_after: event-loop time (``loop.time()``, seconds) by which everything must have ended;
            a request that could not have its whole ``deadline`` before it is not begun and raises a
            :class:`~warmup_pipeline.gateways.base.GatewayError` with ``attempts`` 0.
        at: logical time of the step, told to a simulator with calls that bring none of their own.
        max_connections_per_server: requests in flight at one server at the same time.
        per_second_per_server: requests that may begin at one server in a second; ``None``: as many as come.
        per_second_per_instance: the same of each instance.
        may_begin: asked of every call whose turn has come, with its chip and its server's key: whether it is wanted
            still. One that is not is not made, and raises as one does that comes too late.
        transport_factory: makes in-process transports instead of sockets.
        deadline: seconds one request may take in all.
        retry_pause: seconds before the one retry where the gateway named none.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        redactor: Redactor,
        *,
        simulated: bool,
        not_after: float | None = None,
        at: datetime | None = None,
        max_connections_per_server: int = 100,
        per_second_per_server: float | None = None,
        per_second_per_instance: float | None = None,
        may_begin: MayBegin | None = None,
        transport_factory: TransportFactory | None = None,
        deadline: float = DEADLINE_S,
        retry_pause: float = RETRY_PAUSE_S,
    ) -> None:
        redactor.learn(settings.secrets())
        self._settings = settings
        self._redactor = redactor
        self._simulated = simulated
        self._at = at
        self._may_begin = may_begin
        self._limits = LinkLimits(
            deadline=deadline,
            retry_pause=retry_pause,
            connections=max_connections_per_server,
            per_second=per_second_per_server,
            per_second_each=per_second_per_instance,
            not_after=not_after,
        )
        self._transport_factory = transport_factory
        self._links: list[Link] = []
        self._gateways: dict[Provider, Gateway] = {}

    async def __aenter__(self) -> Self:
        evolution = self._link(self._settings.evolution_url) if self._settings.evolution_url else None
        zapi = self._link(self._settings.zapi_base_url)
        self._gateways = {
            Provider.EVOLUTION: self._opened(Evolution, evolution),
            Provider.Z_API: self._opened(ZApi, zapi),
        }
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gateways = {}
        links, self._links = self._links, []
        for link in links:
            await link.aclose()

    def gateway(self, provider: Provider) -> Gateway:
        """Return the gateway of ``provider``.

        Raises:
            RuntimeError: the hub is not open.
        """
        try:
            return self._gateways[provider]
        except KeyError:
            raise RuntimeError("the gateway hub is not open: use it as an async context manager") from None

    def _opened(self, kind: type[Evolution] | type[ZApi], link: Link | None) -> Gateway:
        return kind(
            link,
            self._settings,
            self._redactor,
            simulated=self._simulated,
            at=self._at,
            may_begin=self._may_begin,
        )

    def _link(self, base_url: str) -> Link:
        link = Link(base_url, self._limits, self._transport_factory)
        self._links.append(link)
        return link
