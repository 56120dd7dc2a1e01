"""Dagster's capture of what a run prints, as it is, but that Ctrl-C in a terminal does not tear it apart.

Holds: :class:`LocalLogs`, which dagster.yaml names. Dagster starts two processes for each stream; a terminal's Ctrl-C
reaches them as well as us, and each would print a traceback of its own before we have said a word. They end when we
end them. Do not add: what is captured.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData


class LocalLogs(LocalComputeLogManager):
    """Keeps what runs print in files of this machine."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Return one as dagster.yaml describes it."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Capture what is printed meanwhile."""
        with ExitStack() as stack:
            with _children_deaf_to_ctrl_c():
                found = stack.enter_context(super().capture_logs(log_key))
            yield found


@contextmanager
def _children_deaf_to_ctrl_c() -> Iterator[None]:
    """Have what is started meanwhile not hear SIGINT; one that comes to us meanwhile is heard afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
