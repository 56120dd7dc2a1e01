"""What chips say: dialogues, pictures and audio notes.

Holds: :class:`Library` and :func:`load_library`, which reads what ships with the package or the
operator's own files. Do not add: which dialogue is held when (``domain.conversation``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import yaml

from warmup_pipeline.domain.conversation import Dialogue, validate_dialogues
from warmup_pipeline.domain.values import MessageKind
from warmup_pipeline.gateways.base import AudioNote, Content, Picture, Text

_MIME_TYPES: Final[Mapping[str, tuple[MessageKind, str]]] = {
    ".jpg": (MessageKind.PICTURE, "image/jpeg"),
    ".jpeg": (MessageKind.PICTURE, "image/jpeg"),
    ".png": (MessageKind.PICTURE, "image/png"),
    ".ogg": (MessageKind.AUDIO, "audio/ogg"),
    ".opus": (MessageKind.AUDIO, "audio/ogg"),
}


_SIGNATURES: Final[Mapping[str, bytes]] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "audio/ogg": b"OggS",
}
"""How a file of each type begins: a gateway takes bytes that are no audio and sends nothing of them."""

LARGEST_FILE: Final = 5_000_000
"""Bytes of a media file: it travels as base64 within one request's ten seconds."""


class LibraryError(ValueError):
    """Dialogues or media cannot be used; the text is one line."""


@dataclass(frozen=True)
class MediaFile:
    """A picture or an audio note that ships, or the operator's own."""

    name: str
    kind: MessageKind
    mime: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Library:
    """All dialogues and media, validated."""

    dialogues: tuple[Dialogue, ...]
    media: Mapping[str, MediaFile]

    @cached_property
    def by_id(self) -> Mapping[str, Dialogue]:
        """Dialogues by id."""
        return {dialogue.id: dialogue for dialogue in self.dialogues}

    def media_for(self, dialogue: Dialogue, *, seed: str) -> MediaFile | None:
        """Return the file a dialogue opens with: the one it names, or one of its kind drawn by ``seed``."""
        if dialogue.opens_with is MessageKind.TEXT:
            return None
        if dialogue.media is not None:
            return self.media[dialogue.media]
        names = [name for name, file in self.media.items() if file.kind is dialogue.opens_with]
        # Ranked by hash, so that adding a file does not change what every other seed draws.
        return self.media[max(names, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())]

    def has_turn(self, dialogue_id: str, turn: int) -> bool:
        """Whether a dialogue is (still) there and has this turn, from 1."""
        dialogue = self.by_id.get(dialogue_id)
        return dialogue is not None and 1 <= turn <= len(dialogue.turns)

    def content(self, dialogue_id: str, turn: int, *, seed: str) -> tuple[Content, MessageKind, str | None]:
        """Return what a turn (from 1) sends: its content, kind, and media file name.

        Raises:
            LibraryError: the dialogue is no longer there, or has no such turn (the operator's file changed).
        """
        dialogue = self.by_id.get(dialogue_id)
        if dialogue is None or not 1 <= turn <= len(dialogue.turns):
            raise LibraryError(f"dialogue {dialogue_id} has no turn {turn} (any more)")
        text = dialogue.turns[turn - 1]
        file = self.media_for(dialogue, seed=seed) if turn == 1 else None
        if file is None:
            return Text(text), MessageKind.TEXT, None
        if file.kind is MessageKind.PICTURE:
            return Picture(file.data, file.mime, text), file.kind, file.name
        return AudioNote(file.data, file.mime), file.kind, file.name


def _media(folder: Traversable | Path) -> dict[str, MediaFile]:
    found: dict[str, MediaFile] = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        suffix = Path(entry.name).suffix.lower()
        if suffix in _MIME_TYPES and entry.is_file():
            kind, mime = _MIME_TYPES[suffix]
            data = entry.read_bytes()
            if not data.startswith(_SIGNATURES[mime]):
                raise LibraryError(f"{entry.name} is no {mime} file, whatever its name says")
            if len(data) > LARGEST_FILE:
                raise LibraryError(f"{entry.name} has {len(data)} bytes; {LARGEST_FILE} are the most")
            found[entry.name] = MediaFile(entry.name, kind, mime, data)
    return found


def load_library(dialogues: Path | None = None, media: Path | None = None) -> Library:
    """Read the shipped dialogues and media, or the operator's own.

    Args:
        dialogues: an operator's YAML file that replaces the shipped one.
        media: an operator's folder that replaces the shipped one. The shipped dialogues then open with
            any file of their kind: bring dialogues of your own where words and pictures must agree.

    Raises:
        LibraryError: something in them cannot be used; one line that names it.
    """
    shipped = resources.files("warmup_pipeline") / "data"
    source: Traversable | Path = dialogues or shipped / "dialogues" / "casual_pt_br.yaml"
    folder: Traversable | Path = media or shipped / "media"
    try:
        checked = validate_dialogues(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise LibraryError(f"{source.name}: {' '.join(str(error).split())}") from None
    try:
        files = _media(folder)
    except OSError as error:
        raise LibraryError(f"{folder.name}: {' '.join(str(error).split())}") from None
    if dialogues is None and media is not None:
        # The shipped dialogues name shipped files; of the operator's own any one of the kind is drawn.
        checked = tuple(replace(dialogue, media=None) for dialogue in checked)
    for dialogue in checked:
        if dialogue.media is not None and dialogue.media not in files:
            raise LibraryError(
                f"{source.name}: dialogue {dialogue.id} names {dialogue.media}, which is not there"
            )
    kinds = {file.kind for file in files.values()}
    for kind in (MessageKind.PICTURE, MessageKind.AUDIO):
        if kind not in kinds and any(d.opens_with is kind for d in checked):
            raise LibraryError(f"{folder.name}: there is no {kind} file, but dialogues open with one")
    return Library(checked, files)
