"""Request bodies as a Node server reads them: JSON, forms, multipart.

Holds: :func:`parse`, :class:`MalformedBodyError`. Add here: a further content type. Do not add: what a body
must contain (``schema``, the gateways).
"""

from __future__ import annotations

import json
import re
from email.message import Message
from email.parser import BytesParser
from typing import Any, Final
from urllib.parse import parse_qsl

from warmup_pipeline.gateways.simulator.wire import Request, dumps

FILE_FIELD: Final = "file"
_SURROGATE: Final = re.compile(r"\\u[dD]")


class MalformedBodyError(Exception):
    """A body that is not JSON although it says so. The text is Node's."""


def parse(request: Request) -> Any:
    """Return the body: parsed JSON, a form's fields, or ``{}`` for anything else and for nothing.

    An uploaded file stands under ``file`` as bytes.

    Raises:
        MalformedBodyError: the JSON cannot be read.
    """
    kind = request.headers.get("content-type", "")
    if not request.body:
        return {}
    if kind.startswith("application/json"):
        return _json(request.body)
    if kind.startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    if kind.startswith("multipart/form-data"):
        return _multipart(kind, request.body)
    return {}


def _json(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        if _SURROGATE.search(text):
            # Half a character, escaped: JavaScript keeps it, nothing that stores UTF-8 can.
            whole = dumps(document).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            document = json.loads(whole)
    except json.JSONDecodeError as error:
        raise MalformedBodyError(_node_words(error, text)) from error
    if not isinstance(document, dict | list):
        raise MalformedBodyError(
            f"Unexpected token '{text.strip()[:1]}', \"{text.strip()[:10]}\" is not valid JSON"
        )
    return document


def _node_words(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()):
        return "Unexpected end of JSON input"
    if error.msg.startswith("Expecting property name"):
        return f"Expected property name or '}}' in JSON at position {error.pos}"
    return f"Unexpected token '{text[error.pos]}' in JSON at position {error.pos}"


def _multipart(content_type: str, body: bytes) -> dict[str, Any]:
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + body)
    fields: dict[str, Any] = {}
    parts = message.get_payload()
    if not isinstance(parts, list):
        return fields
    for part in parts:
        if not isinstance(part, Message):
            continue
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            continue
        fields[name] = content if part.get_filename() is not None else content.decode("utf-8", "replace")
    return fields
