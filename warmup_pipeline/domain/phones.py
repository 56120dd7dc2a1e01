"""Phone numbers of Brazil: normal form, area code (DDD), region.

Holds: :func:`normalise`, :func:`area_code`, :func:`region`. Do not add: masking (privacy).
Source: domain.md, "Pairing" (regions) and "Importing" (E.164, unique).
"""

from __future__ import annotations

import re
from typing import Final

BRAZIL: Final = "55"
_LENGTHS: Final = (12, 13)
"""Digits of a Brazilian E.164 number: 55, two of area code, eight or nine of subscriber."""

_REGIONS: Final[dict[str, tuple[int, ...]]] = {
    "sp_capital": (11,),
    "sp_interior": tuple(range(12, 20)),
    "rj": (21, 22, 24),
    "es": (27, 28),
    "mg": (31, 32, 33, 34, 35, 37, 38),
    "sul": (*range(41, 50), 51, 53, 54, 55),
    "nordeste": (71, 73, 74, 75, 77, 79, *range(81, 90)),
    "norte": (63, 68, 69, *range(91, 98)),
    "centro_oeste": (61, 62, 64, 65, 66, 67),
}
REGION_OF: Final[dict[str, str]] = {str(code): region for region, codes in _REGIONS.items() for code in codes}
"""Region of each area code in use, e.g. ``{"11": "sp_capital"}``."""


def normalise(raw: str) -> str:
    """Return a phone as E.164 digits without the plus sign, e.g. ``5511900000121``.

    Accepts a plus sign, spaces, dots, dashes and brackets; a national number of ten or eleven
    digits gets the country code.

    Raises:
        ValueError: it is not a Brazilian number with an area code in use.
    """
    if re.search(r"[^0-9\s+().-]", raw):
        raise ValueError("a phone has digits, spaces, + ( ) . - only")
    digits = re.sub(r"\D", "", raw)
    if raw.strip().startswith("+") and not digits.startswith(BRAZIL):
        raise ValueError("only numbers of Brazil (+55) can be warmed up")
    if len(digits) in (10, 11):
        digits = BRAZIL + digits
    if len(digits) not in _LENGTHS or not digits.startswith(BRAZIL):
        raise ValueError("a phone is 55, two digits of area code and eight or nine digits")
    if digits[2:4] not in REGION_OF:
        raise ValueError(f"area code {digits[2:4]} is not in use in Brazil")
    if len(digits) == max(_LENGTHS) and digits[4] != "9":
        raise ValueError("a subscriber number of nine digits begins with 9")
    return digits


def area_code(phone: str) -> str:
    """Return the area code (DDD) of a normalised phone, e.g. ``11``."""
    return phone[2:4]


def region(phone: str) -> str:
    """Return the region of a normalised phone, e.g. ``sp_capital``."""
    return REGION_OF[area_code(phone)]


def line_of(phone: str) -> str:
    """Return what all spellings of a normalised phone's line share: see :func:`same_line`."""
    mobile = len(phone) == min(_LENGTHS) or phone[4] == "9"
    return f"{phone[:4]}{phone[-8:]}" if mobile else phone


def same_line(one: str, other: str) -> bool:
    """Whether two numbers, as digits, are one line: WhatsApp knows some Brazilian ones without the nine.

    ``5585987654321`` and ``558587654321`` are one line; any other two numbers must be equal.
    """
    if one == other:
        return True
    if not all(number.startswith(BRAZIL) and len(number) in _LENGTHS for number in (one, other)):
        return False
    mobile = all(len(number) == min(_LENGTHS) or number[4] == "9" for number in (one, other))
    return mobile and area_code(one) == area_code(other) and one[-8:] == other[-8:]
