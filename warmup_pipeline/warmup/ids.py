"""Ids that follow from what they name.

Holds: :func:`derived_id`. Doing a thing twice makes one row, and the same run from scratch makes the
same rows.
"""

from __future__ import annotations

import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("5f2c6e0c-7c0a-5d0e-9a52-2f6a1c9d7e11")


def derived_id(*parts: object) -> str:
    """Return the id (a UUID) of the thing that ``parts`` name."""
    return str(uuid.uuid5(_NAMESPACE, "|".join(str(part) for part in parts)))
