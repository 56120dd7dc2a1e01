"""Media as gateways look at it: base64, URLs, sizes, image signatures, and a picture of a QR code.

Holds: the checks both gateways make of media, and :func:`qr_png`. Do not add: which gateway wants
which form (``evolution_messages``, ``zapi``).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
import zlib
from typing import Final
from urllib.parse import urlsplit

from warmup_pipeline.gateways.simulator.ids import digest

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[^;,]+)*);base64,")
_IMAGE_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF")
_MODULES: Final = 29
_PIXELS: Final = 4


def is_base64(text: str) -> bool:
    """Whether a text is bare base64, padded, and not empty."""
    return len(text) % 4 == 0 and _BASE64.fullmatch(text) is not None


def is_url(text: str) -> bool:
    """Whether a text is an http(s) URL whose host is an IP address or has a dot."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host.strip(".")
    return True


def decoded_size(encoded: str) -> int:
    """Return how many bytes a base64 text stands for."""
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")


def split_data_uri(text: str) -> tuple[str, str] | None:
    """Return MIME type and base64 of a data URI, ``None`` if it is not a proper one."""
    head = _DATA_URI.match(text)
    if head is None or not is_base64(text[head.end() :]):
        return None
    return head.group(1), text[head.end() :]


def looks_like_image(encoded: str) -> bool:
    """Whether base64 begins like a JPEG, PNG, GIF or WebP file."""
    try:
        start = base64.b64decode(encoded[:16])
    except binascii.Error:
        return False
    return start.startswith(_IMAGE_SIGNATURES)


def qr_png(seed: int, *parts: object) -> str:
    """Return a small PNG (base64, no prefix) that looks like a QR code and is one for nobody."""
    bits = "".join(f"{int(digest(seed, 'qr', n, *parts), 16):0256b}" for n in range(4))
    side = _MODULES * _PIXELS
    rows = bytearray()
    for y in range(_MODULES):
        row = bytearray()
        for x in range(_MODULES):
            shade = 0 if bits[(y * _MODULES + x) % len(bits)] == "1" else 255
            row += bytes([shade]) * _PIXELS
        rows += (b"\0" + row) * _PIXELS
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(rows))),
        (b"IEND", b""),
    ):
        png += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return base64.b64encode(png).decode()
