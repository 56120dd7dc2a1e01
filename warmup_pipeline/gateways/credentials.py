"""What it takes to be let in by the gateways: addresses, keys, tokens.

Holds: :class:`GatewaySettings`, checked when it is made, so that a value that cannot work stops the
program with the variable's name and not a request with a stack of HTTP errors. Do not add: reading
of the environment or of files (whoever wires the program does that), HTTP.

Source: interface.md, "Environment".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import httpx

ZAPI_BASE_URL: Final = "https://api.z-api.io"

_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Addresses and secrets of both gateways. Its ``repr`` shows no secret.

    A missing value (``None`` or empty) is no error here: a pool may use one gateway only. The
    client says which variable to set when a chip needs it.

    Attributes:
        evolution_url: base address of the Evolution server (``EVOLUTION_API_URL``).
        evolution_key: its global key (``EVOLUTION_API_KEY``).
        evolution_instance_keys: key by instance name, used before the global one
            (``evolution:`` in ``WARMUP_SECRETS_FILE``).
        zapi_base_url: base address of Z-API (``ZAPI_BASE_URL``).
        zapi_client_token: the account's security token (``ZAPI_CLIENT_TOKEN``); needed once the
            account has activated it.
        zapi_tokens: token by instance id (``zapi:`` in ``WARMUP_SECRETS_FILE``).

    Raises:
        ValueError: a value cannot work; the text names the variable and never shows the value.
    """

    evolution_url: str | None = None
    evolution_key: str | None = field(default=None, repr=False)
    evolution_instance_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    zapi_base_url: str = ZAPI_BASE_URL
    zapi_client_token: str | None = field(default=None, repr=False)
    zapi_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.evolution_url:
            _check_address("EVOLUTION_API_URL", self.evolution_url)
        _check_address("ZAPI_BASE_URL", self.zapi_base_url)
        for name, value in (
            ("EVOLUTION_API_KEY", self.evolution_key),
            ("ZAPI_CLIENT_TOKEN", self.zapi_client_token),
        ):
            if value:
                _check_secret(name, value)
        for provider, secrets in (("evolution", self.evolution_instance_keys), ("zapi", self.zapi_tokens)):
            for value in secrets.values():
                if value:
                    _check_secret(f"a value under {provider}: in WARMUP_SECRETS_FILE", value)

    def secrets(self) -> Iterator[str]:
        """Yield every secret value, and its form in a URL where that differs (for the redactor)."""
        held = (
            self.evolution_key,
            self.zapi_client_token,
            *self.evolution_instance_keys.values(),
            *self.zapi_tokens.values(),
        )
        for secret in held:
            if secret:
                yield secret
                if (in_url := quote(secret, safe="")) != secret:
                    yield in_url


def _check_address(variable: str, value: str) -> None:
    problem = None
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        problem = "is not a web address"
    else:
        if url.scheme not in ("http", "https") or not url.host:
            problem = "must begin with http:// or https:// and name a host"
        elif url.userinfo:
            problem = "must not hold a user name or password"
        elif url.query or url.fragment:
            problem = "must not have a ? or # part"
    if problem:
        raise ValueError(f"{variable} {problem}, for example https://gateway.example.com")


def _check_secret(variable: str, value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"{variable} holds a space, a line break or a character that is not ASCII")
