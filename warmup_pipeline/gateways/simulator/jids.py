"""WhatsApp addresses: how Evolution makes one of a number, and how the simulator compares numbers.

Holds: :func:`create_jid` (the gateway's own normalisation, ninth digits and all), :func:`account`
(the form under which a phone is looked up), :func:`source_of`. Do not add: validation of phones
(``domain.phones``): the gateway does none.

Source: gateway-contract.md 1.1 ("Number normalisation", "Identifiers and times").
"""

from __future__ import annotations

import re
from typing import Final

USER: Final = "@s.whatsapp.net"
GROUP: Final = "@g.us"
LID: Final = "@lid"
_LEFT_ALONE: Final = (USER, GROUP, LID, "@broadcast")
_DEVICE: Final = re.compile(r":[0-9]+")
_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_GROUP_LENGTH: Final = 18
_OLD_GROUP_LENGTH: Final = 24


def create_jid(number: str) -> str:
    """Return the jid Evolution makes of a ``number``.

    Drops a device suffix; leaves full jids alone; makes group ids of very long numbers; drops the
    ninth digit of Brazilian mobiles from area code 31 on, and the third digit of Mexican and
    Argentinian ones. Letters alone become ``@s.whatsapp.net``, as on the real server.
    """
    number = _DEVICE.sub("", number, count=1)
    if any(kind in number for kind in _LEFT_ALONE):
        return number
    bare = number.split("@", 1)[0]
    if "-" in bare and len(bare) >= _OLD_GROUP_LENGTH:
        return re.sub(r"[^0-9-]", "", bare) + GROUP
    digits = _NOT_DIGIT.sub("", bare)
    if len(digits) >= _GROUP_LENGTH:
        return digits + GROUP
    return account(digits) + USER


def account(phone: str) -> str:
    """Return the digits under which WhatsApp knows a phone, e.g. ``558587654321`` for ``5585987654321``."""
    if len(phone) != 13:
        return phone
    country = phone[:2]
    if country in ("52", "54"):
        return country + phone[3:]
    if country == "55" and int(phone[2:4]) >= 31 and int(phone[5]) >= 7:
        return phone[:4] + phone[5:]
    return phone


def user_of(jid: str) -> str:
    """Return what stands before the ``@``."""
    return jid.split("@", 1)[0]


def digits_of(text: str) -> str:
    """Return the digits of a text."""
    return _NOT_DIGIT.sub("", text)


def source_of(message_id: str) -> str:
    """Return the kind of device that a WhatsApp id betrays."""
    if message_id.startswith("3EB0") and len(message_id) == 22:
        return "web"
    if message_id.startswith("3A") and len(message_id) == 20:
        return "ios"
    if len(message_id) in (21, 32):
        return "android"
    if message_id.startswith("3F") or len(message_id) == 18:
        return "desktop"
    return "unknown"
