"""What may be said to a benchmark: the options that its ``run`` takes, their bounds and their help.

Holds: :class:`AtLeast`, :class:`OneOf`, :class:`Anything`, :data:`Database`, :func:`parser_of`. Do not add: what is
measured.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn, get_type_hints

WRONG_USAGE: Final = 64


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The smallest number with which a benchmark measures anything, and the largest, if there is one."""

    number: int
    most: int | None = None

    def __call__(self, word: str) -> int:
        """Return the number a word says.

        Raises:
            argparse.ArgumentTypeError: it says none, or one that is too small or too large.
        """
        if not re.fullmatch(r"[+-]?\d{1,12}", word, re.ASCII):
            raise argparse.ArgumentTypeError(f"{word!r} is no whole number")
        if int(word) < self.number:
            raise argparse.ArgumentTypeError(f"it must be at least {self.number}, not {word}")
        if self.most is not None and int(word) > self.most:
            raise argparse.ArgumentTypeError(f"it must be at most {self.most}, not {word}")
        return int(word)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The words that are understood."""

    words: tuple[str, ...]

    def __call__(self, word: str) -> str:
        """Return the word.

        Raises:
            argparse.ArgumentTypeError: it is none of them.
        """
        if word not in self.words:
            raise argparse.ArgumentTypeError(f"say one of {', '.join(self.words)}, not {word!r}")
        return word


@dataclass(frozen=True, slots=True)
class Anything:
    """Words that the benchmark understands by itself."""

    def __call__(self, word: str) -> str:
        """Return the word."""
        return word


Database = Annotated[str, OneOf(("sqlite", "postgresql"))]


_METAVARS: Final = {AtLeast: "N", Anything: "WORDS"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{self.prog}: {message}; --help lists the options\n")


def parser_of(name: str, run: Callable[..., Any]) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's options: one for each argument of ``run`` that has bounds, and ``--json``."""
    text = inspect.getdoc(run) or ""
    parser = _Parser(
        prog=f"python -m warmup_pipeline_tests.benchmarks {name}",
        description=text.partition("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    helps = _helps(text)
    hints = get_type_hints(run, include_extras=True)
    for argument, parameter in inspect.signature(run).parameters.items():
        for bound in getattr(hints[argument], "__metadata__", ()):
            default = parameter.default
            parser.add_argument(
                f"--{argument.replace('_', '-')}",
                type=bound,
                default=default,
                metavar=_METAVARS.get(type(bound)) or "|".join(bound.words),
                help=(helps[argument] + (f" (default {default})" if default != "" else "")).replace(
                    "%", "%%"
                ),
            )
    return parser


def _helps(text: str) -> dict[str, str]:
    """Return what a docstring says of each argument."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Args:\n")[2].splitlines():
        if said := re.fullmatch(r" {4}(\w+): (.+)", line):
            name = said[1]
            found[name] = said[2].replace("``", "")
        elif name and line.startswith(" " * 8):
            found[name] += " " + line.strip().replace("``", "")
        else:
            break
    return {argument: words.rstrip(".") for argument, words in found.items()}
