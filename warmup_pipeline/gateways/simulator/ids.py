"""Identifiers and everything else that looks random, derived from a seed.

Holds: WhatsApp ids, queue ids, row ids, UUIDs, and :func:`fraction` for chances. Add here: another
derived identifier. Do not add: anything that reads a clock or a random source: two runs from
scratch must give the same identifiers.
"""

from __future__ import annotations

import hashlib
from typing import Final

_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ROW_WIDTH: Final = 12
_CUID_HEAD: Final = "cmws"


def digest(seed: int, *parts: object) -> str:
    """Return 64 lower-case hexadecimal digits that stand for ``parts`` under ``seed``."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def fraction(seed: int, *parts: object) -> float:
    """Return a number in [0, 1) that stands for ``parts`` under ``seed``."""
    return int(digest(seed, *parts)[:13], 16) / 16**13


def evolution_message_id(seed: int, instance: str, number: int) -> str:
    """Return the WhatsApp id of an instance's n-th message: ``3EB0`` and 18 hexadecimal digits."""
    return "3EB0" + digest(seed, "evolution", instance, number)[:18].upper()


def zapi_message_id(seed: int, instance: str, number: int) -> str:
    """Return the WhatsApp id of a Z-API instance's n-th message: 20 hexadecimal digits."""
    return "D2" + digest(seed, "z-api", instance, number)[:18].upper()


def queue_id(seed: int, instance: str, number: int) -> str:
    """Return the id (``zaapId``) of a Z-API instance's n-th message in its queue."""
    return digest(seed, "queue", instance, number)[:32].upper()


def uuid4(seed: int, *parts: object) -> str:
    """Return a UUID of version 4 form, lower case."""
    hexes = digest(seed, "uuid", *parts)
    variant = "89ab"[int(hexes[16], 16) % 4]
    return f"{hexes[:8]}-{hexes[8:12]}-4{hexes[13:16]}-{variant}{hexes[17:20]}-{hexes[20:32]}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _BASE36[rest] + digits
    return digits or "0"


def row_id(table: str, number: int) -> str:
    """Return a database row id as Evolution shows it (a cuid: ``c`` and 24 more).

    Args:
        table: one lower-case letter that names the table.
        number: the row's number in it.
    """
    return f"{_CUID_HEAD}{table}{_base36(number).rjust(_ROW_WIDTH, '0')}8c7dtgil"
