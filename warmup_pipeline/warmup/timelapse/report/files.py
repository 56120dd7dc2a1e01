"""Writing what a report makes: whole or not at all, and never over somebody else's files.

Holds: :func:`check_file` and :func:`check_folder` (asked before a long simulation begins),
:func:`write_file` and :func:`write_folder`. Do not add: what is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


class OutputError(ValueError):
    """A file or folder cannot be written; the text is one line that says what to do."""


def check_file(path: Path) -> None:
    """Make sure that a file can be written; one that exists will be replaced.

    Raises:
        OutputError: it is a folder, or its folder is missing or cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no ordinary file; name another one")
    _check_parent(path)


def check_folder(path: Path, files: frozenset[str]) -> None:
    """Make sure that a folder can be written: it is new, empty, or holds such files and no others.

    Args:
        path: the folder.
        files: names of all files that may be written into it, and so be replaced.

    Raises:
        OutputError: it is a file, holds anything else, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; name a folder")
    _check_parent(path)
    if not path.is_dir():
        return
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written; check its permissions")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in files)
    if foreign:
        raise OutputError(f"{path} holds other files ({foreign[0]}); name a new or an empty folder")


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"the folder {parent} does not exist; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {parent} cannot be written; check its permissions")


def write_file(path: Path, text: str) -> None:
    """Write a text file at once: a reader sees the old one or the new one, whole.

    Raises:
        OutputError: it cannot be written; what was there before is still there.
    """
    check_file(path)
    path = path.absolute()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            part = Path(scratch) / path.name
            part.write_text(text, encoding="utf-8", newline="\n")
            part.replace(path)
    except OSError as error:
        raise _refused(path, error) from None


def write_folder(path: Path, texts: Mapping[str, str], *, files: frozenset[str]) -> None:
    """Write a folder of text files at once, in place of what an earlier call left there.

    Args:
        path: the folder.
        texts: what each file holds.
        files: as for :func:`check_folder`.

    Raises:
        OutputError: it cannot be written; what was there before is still there.
    """
    check_folder(path, files)
    path = path.absolute()
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _refused(path, error) from None
    try:
        part, former = scratch / "new", scratch / "former"
        part.mkdir()
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8", newline="\n")
        if path.is_dir():
            path.rename(former)
        try:
            part.rename(path)
        except OSError:
            if former.is_dir():
                former.rename(path)
            raise
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written ({error.strerror or type(error).__name__})")
