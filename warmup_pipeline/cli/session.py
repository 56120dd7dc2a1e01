"""What every command starts from, and how every command fails.

Holds: :class:`Session` (root, settings, worlds), the parameter types of paths and timestamps, and
:class:`OneLineGroup`, which turns bad input into one line and exit code 64. Add here: an error type
that means bad input. Do not add: commands.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import getpass
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from sqlalchemy.exc import DBAPIError

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.settings import Settings, SettingsError, adopt_dotenv, project_root

BAD_INPUT: Final = 64
"""Exit code for bad input or usage (EX_USAGE of sysexits.h)."""

BROKEN: Final = 70
"""Exit code for an error of this program (EX_SOFTWARE)."""

_INTERRUPTED: Final = 130
_MOMENT_S: Final = 0.05


class InputError(Exception):
    """A command cannot do what it is asked; each line of ``lines`` says one thing that is wrong."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Session:
    """Where a command was started and what it works on.

    Attributes:
        cwd: the working directory it was started in; relative paths on the command line start here.
        root: the project's root, which has become the working directory.
    """

    cwd: Path
    root: Path

    @classmethod
    def begin(cls, context: click.Context) -> Session:
        """Go to the project's root, and let Dagster find its home there."""
        if os.environ.get("NO_COLOR"):
            context.color = False
        if not sys.warnoptions:
            # Deprecations inside a library tell an operator nothing; `python -W` shows them.
            warnings.simplefilter("ignore")
        cwd = Path.cwd()
        root = project_root(cwd)
        os.chdir(root)
        adopt_dotenv(root)
        home = Path(os.environ.setdefault("DAGSTER_HOME", str(root))).expanduser()
        if not home.is_absolute() or not home.is_dir():
            raise InputError(
                f"DAGSTER_HOME is {str(home)!r}: set it to the absolute path of a folder that exists, or unset it"
            )
        return cls(cwd, root)

    def settings(self) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: the environment cannot be used.
        """
        return Settings.from_environment(self.root)

    @contextmanager
    def world(self, *, gateways: bool = True) -> Iterator[Any]:
        """Open a :class:`~warmup_pipeline.warmup.world.World` for the length of a command.

        Args:
            gateways: ``False`` for commands that only read and write the database: in simulated mode
                no simulator is started for them, and no gateway can be asked.
        """
        # Imported here: --help and a wrong option need not wait for the whole program.
        from warmup_pipeline import assembly
        from warmup_pipeline.warmup.world import StandardLog

        opened = assembly.open_world if gateways else assembly.open_reading_world
        with opened(self.settings(), log=StandardLog()) as world:
            yield world


def user() -> str:
    """Return who is at the keyboard, for ``operator_actions``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number without a name.
        return "operator"


class InputFile(click.ParamType[Path]):
    """A path of a file to read, relative to where the command was started."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, absolute. Whether it can be read is said by whoever reads it."""
        del param
        session = ctx.find_object(Session) if ctx is not None else None
        path = Path(value).expanduser()
        return path if session is None else session.cwd / path


_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2199


class Timestamp(click.ParamType[datetime]):
    """An instant with its offset, as in ``2026-02-20T08:00:00-03:00``."""

    name = "timestamp"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the instant, aware."""
        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no timestamp; write it as 2026-02-20T08:00:00-03:00", param, ctx)
        if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
            self.fail(f"{value!r} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}", param, ctx)
        if at.tzinfo is None:
            self.fail(f"{value!r} has no time zone; add its offset, as in {at.isoformat()}-03:00", param, ctx)
        return at


class OneLineGroup(click.Group):
    """The root group: bad input ends in one line and exit code 64, never in a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; exits the process unless told otherwise."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            with _hearing_again():
                code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            _fail(_usage(error))
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort as interrupted:
            _let_go(interrupted)
            click.echo("Interrupted.", err=True)
            # What is pressed while the process ends would only tear that apart.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
            sys.exit(_INTERRUPTED)
        except InputError as error:
            _fail(*error.lines)
        except Exception as error:  # noqa: BLE001 - the last stop: nothing unredacted may leave from here
            lines = _input_lines(error)
            if lines is not None:
                _fail(*lines)
            _crash(error)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _hearing_again() -> Iterator[None]:
    """Have a Ctrl-C that Python cannot raise told once more.

    One that meets a callback of the collector's, say, is dropped there, and the command would go on.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        kind = unraisable.exc_type
        if kind is not None and (
            issubclass(kind, KeyboardInterrupt) or kind.__name__ == "DagsterExecutionInterruptedError"
        ):
            # From another thread, and a moment later: told here, it would be dropped again.
            again = threading.Timer(_MOMENT_S, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _let_go(interrupted: click.Abort) -> None:
    """Let go of what was at work, without a word of it.

    What was half made just then (an event loop) cannot end as it should: that is nobody's trouble.
    """
    told = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        interrupted.__traceback__ = interrupted.__cause__ = interrupted.__context__ = None
        gc.collect()
    finally:
        sys.unraisablehook = told


def _usage(error: click.UsageError) -> str:
    message = error.format_message()
    if error.ctx is None:
        return message
    return f"{message.rstrip('.')}; see `{error.ctx.command_path} --help`"


def _input_lines(error: Exception) -> tuple[str, ...] | None:
    """Return what to say of an error that means bad input; ``None`` for any other."""
    from warmup_pipeline.orchestration.opening import HistoryError
    from warmup_pipeline.store.engine import PoolNotFound, StoreUrlError
    from warmup_pipeline.store.trouble import StoreError, told
    from warmup_pipeline.warmup.demo import DemoRefused
    from warmup_pipeline.warmup.importing import ImportRefused
    from warmup_pipeline.warmup.library import LibraryError
    from warmup_pipeline.warmup.lifecycle import CycleRefused
    from warmup_pipeline.warmup.operating import OperatorError
    from warmup_pipeline.warmup.policies import PolicyError

    if isinstance(error, ImportRefused):
        if len(error.problems) == 1:
            return (f"nothing was imported: {error.problems[0]}",)
        return (f"nothing was imported, {len(error.problems)} problems", *error.problems)
    if isinstance(error, DBAPIError):
        # The pool's own database tells its troubles itself. The driver's first line only: more may repeat values.
        trouble = told(error, "of Dagster's own history", variable="dagster.yaml")
        words = str(error.orig).splitlines()
        return (str(trouble or f"the database cannot be used ({words[0] if words else 'no reason given'})"),)
    known = (
        CycleRefused,
        DemoRefused,
        HistoryError,
        LibraryError,
        OperatorError,
        PolicyError,
        PoolNotFound,
        SettingsError,
        StoreError,
        StoreUrlError,
    )
    return (str(error.args[0] if error.args else error),) if isinstance(error, known) else None


def _redactor() -> Redactor:
    try:
        return Redactor(Settings.from_environment().secrets())
    except SettingsError:
        return Redactor()


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _fail(*lines: str) -> NoReturn:
    """Say what is wrong, a line for each thing, and exit with 64."""
    redactor = _redactor()
    for line in lines:
        text = redactor.text(" ".join(line.split()))
        click.echo(click.style("Error: ", fg="red", bold=True) + text, err=True, color=_color())
    sys.exit(BAD_INPUT)


def _crash(error: Exception) -> NoReturn:
    """Show an error of this program with its whole traceback, redacted, and exit with 70."""
    click.echo(_redactor().traceback(error), err=True)
    click.echo("This is an error of warmup itself; the traceback above belongs in a report.", err=True)
    sys.exit(BROKEN)
