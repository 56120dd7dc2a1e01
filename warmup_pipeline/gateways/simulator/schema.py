"""A small JSON-schema check that words its complaints as Evolution's library does.

Holds: :func:`violations`. Add here: a keyword that one of Evolution's schemas uses. Do not add: the
schemas themselves (they stand beside the routes that use them).

Source: gateway-contract.md 1.1 ("Validation message texts").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_ABSENT = object()


def violations(schema: Schema, instance: object) -> list[str]:
    """Return one text per violation, in the library's order; empty if the instance is valid."""
    found: list[str] = []
    _check(schema, instance, "instance", found)
    return found


def _check(schema: Schema, value: object, path: str, found: list[str]) -> None:
    if value is _ABSENT:
        return
    for keyword, argument in schema.items():
        for where, text in _complaints(keyword, argument, value, path, found):
            found.append(schema.get("description") or f"{where} {text}")


def _complaints(
    keyword: str, argument: Any, value: object, path: str, found: list[str]
) -> list[tuple[str, str]]:
    """Return what one keyword has against a value; violations inside it go to ``found``."""
    name = path.removeprefix("instance.")
    if keyword == "type":
        return [] if _is(argument, value) else [(name, f"is not of a type(s) {argument}")]
    if keyword == "properties" and isinstance(value, dict):
        for key, inner in argument.items():
            _check(inner, value.get(key, _ABSENT), f"{path}.{key}", found)
        return []
    if keyword == "required" and isinstance(value, dict):
        return [(name, f'requires property "{key}"') for key in argument if key not in value]
    if keyword == "enum":
        allowed = ",".join(_shown(item) for item in argument)
        return [] if value in argument else [(name, f"is not one of enum values: {allowed}")]
    if keyword == "pattern" and isinstance(value, str):
        return [] if re.search(argument, value) else [(name, f'does not match pattern "{argument}"')]
    if isinstance(value, list):
        return _list_complaints(keyword, argument, value, path, found)
    return []


def _list_complaints(
    keyword: str, argument: Any, value: Sequence[object], path: str, found: list[str]
) -> list[tuple[str, str]]:
    name = path.removeprefix("instance.")
    if keyword == "minItems" and len(value) < argument:
        return [(name, f"does not meet minimum length of {argument}")]
    if keyword == "uniqueItems" and any(item in value[:n] for n, item in enumerate(value)):
        return [(name, "contains duplicate item")]
    if keyword == "items":
        for n, item in enumerate(value):
            _check(argument, item, f"{path}[{n}]", found)
    return []


def _is(kind: str, value: object) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "array":
        return isinstance(value, list)
    return isinstance(value, dict)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
