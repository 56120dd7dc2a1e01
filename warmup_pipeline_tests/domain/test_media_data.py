"""Guards the shipped pictures and audio notes: both gateways take bytes that are no media without a word."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

import warmup_pipeline

MEDIA = Path(warmup_pipeline.__file__).parent / "data" / "media"
PICTURES = sorted(MEDIA.glob("*.jpg"))
NOTES = sorted(MEDIA.glob("*.ogg"))
LARGEST_BYTES = 40 * 1024
OPUS_RATE = 48_000


def name_of(path: Path) -> str:
    return path.name


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height, read from the frame header as a viewer does."""
    at = 2
    while at < len(content):
        marker, length = struct.unpack(">HH", content[at : at + 4])
        if marker in (0xFFC0, 0xFFC1, 0xFFC2):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise AssertionError("no frame header")


def ogg_pages(content: bytes) -> list[tuple[int, int, bytes]]:
    """Header flags, granule position and body of each OGG page; fails where a page does not follow."""
    pages = []
    at = 0
    while at < len(content):
        assert content[at : at + 4] == b"OggS", f"no page at byte {at}"
        flags, granule = struct.unpack("<xBq", content[at + 4 : at + 14])
        segments = content[at + 27 : at + 27 + content[at + 26]]
        body_at = at + 27 + len(segments)
        pages.append((flags, granule, content[body_at : body_at + sum(segments)]))
        at = body_at + sum(segments)
    assert at == len(content), "the last page is cut off"
    return pages


def test_enough_pictures_and_audio_notes_ship():
    assert len(PICTURES) >= 8
    assert len(NOTES) >= 5


def test_nothing_else_but_their_provenance_ships_beside_them():
    assert {path.name for path in MEDIA.iterdir()} - {path.name for path in (*PICTURES, *NOTES)} == {
        "README.md"
    }


@pytest.mark.parametrize("path", PICTURES, ids=name_of)
def test_a_picture_is_a_whole_jpeg_of_modest_size(path: Path):
    content = path.read_bytes()
    assert content.startswith(b"\xff\xd8\xff")
    assert content.endswith(b"\xff\xd9")
    assert len(content) < LARGEST_BYTES
    width, height = picture_size(content)
    assert 320 <= width <= 800
    assert 320 <= height <= 800


@pytest.mark.parametrize("path", NOTES, ids=name_of)
def test_an_audio_note_is_a_whole_mono_opus_stream_of_two_to_six_seconds(path: Path):
    content = path.read_bytes()
    assert len(content) < LARGEST_BYTES
    pages = ogg_pages(content)
    first_flags, _, head = pages[0]
    last_flags, last_granule, _ = pages[-1]
    assert first_flags & 2, "the first page begins the stream"
    assert last_flags & 4, "the last page ends it"
    assert head.startswith(b"OpusHead")
    assert pages[1][2].startswith(b"OpusTags")
    channels, skipped = struct.unpack("<BH", head[9:12])
    assert channels == 1
    assert 2 <= (last_granule - skipped) / OPUS_RATE <= 6


def test_every_file_differs_from_every_other():
    files = [*PICTURES, *NOTES]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == len(files)


def test_the_provenance_names_every_audio_note_and_both_generators():
    text = (MEDIA / "README.md").read_text(encoding="utf-8")
    assert all(path.name in text for path in NOTES)
    assert "docs/media/make_pictures.py" in text
    assert "docs/media/make_audio.sh" in text
