"""The one place where secrets and phone numbers are taken out of text.

Holds: :class:`Redactor`, which every log line, error row, event and traceback passes through, and
:func:`mask_phone`. Do not add: knowledge of where secrets come from (settings tell the redactor).

Source: domain.md, "Failures": no secret anywhere, and no full phone number in any log, event, run
config, traceback or error row; phones show as ``…8618``.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
_SHORTEST_SECRET: Final = 4

# Ten to fifteen digits, as a phone is written: bare, with +, or grouped by space, dot, dash or brackets.
# Not inside a word (hex ids keep their digits) and not the middle of a longer number.
_PHONE = re.compile(r"(?<![0-9A-Za-z.…-])\+?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{4}(?![0-9A-Za-z])")
_JID = re.compile(r"\d{7,20}(?=(?::\d+)?@(?:s\.whatsapp\.net|c\.us|lid|g\.us))")
_BARE_PHONE = re.compile(r"(?<!\d)\d{10,15}(?!\d)")
# Ids of runs and rows are looked up by these: their digits are no phone.
_UUID = re.compile(
    r"((?<![0-9A-Za-z-])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9A-Za-z-]))"
)
_TOKEN_IN_PATH = re.compile(r"((?:/|%2F)token(?:/|%2F))(?:(?!%2F)[^/\s\"'\\])+", re.IGNORECASE)
# A field and its value, also in JSON within JSON (quotes with backslashes before them), in the repr of raw
# headers (b'...', a comma between), and in a query.
_SECRET_FIELD = re.compile(
    r"""(?ix) ( (?:apikey|api[-_]key|client[-_]token|authorization|x-warmup-secret|password|token)
        (?: \\*["']? \s*(?:[:=]|%3[AD])\s* | \\*["'] \s*,\s* (?=b?\\*["']) ) ) ((?:b?\\*["'])?)
        (?:(?:bearer|basic|digest|token)\s+)? [^\s"',;&)}\]\\]+ """,
)
_QUERY_KEY = re.compile(r"((?:[?&]|%3F|%26)key(?:=|%3D))(?:(?!%26)[^&\s\"'\\])+", re.IGNORECASE)
# Our own advice says where a password goes, by that very word.
_URL_PASSWORD = re.compile(r"(://[^/\s:@]+:)(?!password@)[^/\s@]+(?=@)")


def mask_phone(phone: str) -> str:
    """Return a phone as it may be shown: an ellipsis and its last four digits."""
    digits = re.sub(r"\D", "", phone)
    return f"…{digits[-4:]}"


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it stands in texts: as it is, in URLs, in JSON, in a repr, and JSON within JSON."""
    quoted = json.dumps(secret)[1:-1]
    plain = json.dumps(secret, ensure_ascii=False)[1:-1]
    yield from (secret, quoted, plain, json.dumps(quoted)[1:-1], repr(secret)[1:-1])
    for encoded in (
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
    ):
        yield encoded
        # Hex digits of either case are the same code.
        yield re.sub(r"%[0-9A-F]{2}", lambda code: code.group(0).lower(), encoded)


def _mask_match(match: re.Match[str]) -> str:
    text = match.group(0)
    digits = re.sub(r"\D", "", text)
    return f"…{digits[-4:]}" if 10 <= len(digits) <= 15 else text


class Redactor:
    """Takes known secrets, secret-looking fields and full phone numbers out of text.

    Args:
        secrets: values that must never be shown (tokens, keys, passwords). Values shorter than
            four characters are ignored: replacing them would destroy the text and hide nothing.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self._learnt: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Add secret values, longest first so that one inside another leaves nothing behind.

        Each is also known as it looks in a URL (percent-encoded, by either rule for blanks), in JSON and
        in Python's repr.
        """
        plain = [s for s in secrets if s and len(s) >= _SHORTEST_SECRET and s not in self._learnt]
        if not plain:
            return
        self._learnt.update(plain)
        known = {*self._secrets, *(form for s in plain for form in _forms(s))}
        self._secrets = tuple(sorted(known, key=lambda s: (-len(s), s)))

    def text(self, text: str) -> str:
        """Return ``text`` with secrets as ``***`` and phone numbers as ``…`` and four digits."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = _TOKEN_IN_PATH.sub(rf"\g<1>{MASK}", text)
        text = _SECRET_FIELD.sub(rf"\g<1>\g<2>{MASK}", text)
        text = _QUERY_KEY.sub(rf"\g<1>{MASK}", text)
        text = _URL_PASSWORD.sub(rf"\g<1>{MASK}", text)
        text = _JID.sub(lambda m: f"…{m.group(0)[-4:]}", text)
        # Split at the ids: every second part is one.
        parts = _UUID.split(text)
        parts[::2] = [_BARE_PHONE.sub(_mask_match, _PHONE.sub(_mask_match, part)) for part in parts[::2]]
        return "".join(parts)

    def traceback(self, error: BaseException) -> str:
        """Return the whole traceback of ``error``, its cause chain included, redacted."""
        return self.text("".join(traceback.format_exception(error)))
