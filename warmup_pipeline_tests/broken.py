"""Connections that break at a moment which a server alone cannot choose.

Holds: :func:`handing_out_reset`. Do not add: what a server does (``gateways/conftest``, the simulator's faults).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp


def handing_out_reset(
    connector: aiohttp.BaseConnector, connected: Callable[[int], bool]
) -> aiohttp.BaseConnector:
    """Let a connector hand out a connection only once its reset has arrived, so that writing must fail.

    Args:
        connector: is changed and returned.
        connected: told the port of each new connection; says whether the server is to reset it.
    """
    create = connector._create_connection

    async def created(*args: Any, **kwargs: Any) -> Any:
        connection = await create(*args, **kwargs)
        transport, lost = connection.transport, connection.closed
        if transport is None or lost is None:
            raise AssertionError("the connection was to be reset, and broke before that")
        if connected(transport.get_extra_info("sockname")[1]):
            with suppress(aiohttp.ClientError):
                await lost
        return connection

    connector._create_connection = created  # type: ignore[method-assign]
    return connector
