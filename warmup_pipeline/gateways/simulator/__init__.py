"""A simulator of both gateways: Evolution API 2.3.6 and Z-API on one loopback port.

Holds: the names other packages use. Add here: a further public name. Do not add: behaviour.

The core (``core``) answers requests without any transport and keeps its state in SQLite; the server
(``server``) puts it on a socket. ``gateway-contract.md`` says what is answered.
"""

from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.faults import FaultMatch, FaultRule
from warmup_pipeline.gateways.simulator.server import RunningSimulator, SimulatorServer, run_in_thread
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.gateways.simulator.wire import Reply, Request, Wire

__all__ = [
    "FaultMatch",
    "FaultRule",
    "Reply",
    "Request",
    "RunningSimulator",
    "SimulatedInstance",
    "SimulatorCore",
    "SimulatorServer",
    "SimulatorSettings",
    "Wire",
    "run_in_thread",
]
