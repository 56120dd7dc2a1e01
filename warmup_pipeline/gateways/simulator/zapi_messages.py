"""Z-API's sending routes: everything is queued, and a 200 means no more than that.

Holds: the handlers of ``send-*`` and ``read-message``. Add here: another kind of message. Do not
add: the queue's pace and outcome (``network``).

Source: gateway-contract.md 2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from warmup_pipeline.gateways.simulator.jids import GROUP, LID, USER, account
from warmup_pipeline.gateways.simulator.media import decoded_size, is_url, split_data_uri
from warmup_pipeline.gateways.simulator.network import Call, Kind, Network
from warmup_pipeline.gateways.simulator.state import Instance
from warmup_pipeline.gateways.simulator.wire import Reply, empty_reply, json_reply

_NOT_MEDIA: Final = "Message not send caused by invalid media url"
_LONGEST_DELAY_S: Final = 15


def _refused(text: str, status: int = 400) -> Reply:
    return json_reply(status, {"error": text})


def _jid(phone: object) -> str | None:
    """Return the jid of a ``phone`` field: digits only, a group's id, or a privacy id."""
    if not isinstance(phone, str):
        return None
    if phone.endswith("-group"):
        return phone.removesuffix("-group") + GROUP
    if phone.endswith(LID) and phone.removesuffix(LID).isdigit():
        return phone
    if phone.isascii() and phone.isdigit():
        return account(phone) + USER
    return None


def _seconds(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LONGEST_DELAY_S:
        return value
    return None


def _queued(
    network: Network,
    call: Call,
    instance: Instance,
    fields: dict[str, Any],
    kind: Kind,
    text: str,
    **media: Any,
) -> Reply:
    jid = _jid(fields.get("phone"))
    if jid is None:
        return _refused("Invalid phone")
    if network.state.count_queued(instance.id) >= network.settings.queue_limit:
        return _refused("It was not possible to send message to queue due to request error.")
    delay, typing = _seconds(fields, "delayMessage"), _seconds(fields, "delayTyping") or 0
    message = network.accept(
        instance,
        call,
        kind=kind,
        jid=jid,
        body=text,
        wait_ms=None if delay is None and not typing else ((delay or 2) + typing) * 1000,
        **media,
    )
    return json_reply(200, {"zaapId": message.queue_id, "messageId": message.wa_id, "id": message.wa_id})


def send_text(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    """``POST /send-text``."""
    text = body.get("message")
    if not isinstance(text, str) or not text.strip():
        return _refused("Message is required")
    replied = body.get("messageId")
    extra = {"quoted": {"key": {"id": replied}}} if isinstance(replied, str) else None
    return _queued(network, call, instance, body, "text", text, extra=extra)


def _media(field: str, kind: Kind, family: str) -> Callable[..., Reply]:
    def send(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
        source = body.get(field)
        if not isinstance(source, str) or not source:
            return _refused(f"{field.capitalize()} is required")
        if is_url(source):
            mime, size = f"{family}*", 0
        else:
            parsed = split_data_uri(source)
            # Bare base64 is what Evolution wants and what Z-API cannot read.
            if parsed is None or (family and not parsed[0].startswith(family)):
                return _refused(_NOT_MEDIA)
            mime, size = parsed[0], decoded_size(parsed[1])
        caption = body.get("caption")
        extra = {"fileName": body["fileName"]} if isinstance(body.get("fileName"), str) else None
        return _queued(
            network,
            call,
            instance,
            body,
            kind,
            caption if isinstance(caption, str) else "",
            media_mime=mime,
            media_bytes=size,
            extra=extra,
        )

    return send


def send_document(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    """``POST /send-document/{extension}``."""
    if len(path) != 2 or not path[1]:
        return _refused("Extension is required")
    return _media("document", "document", "")(network, call, instance, path, body)


def send_reaction(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    """``POST /send-reaction``."""
    emoji, target = body.get("reaction"), body.get("messageId")
    if not isinstance(emoji, str) or not isinstance(target, str) or not target:
        return _refused("Message has not been sent because it got invalid request params.")
    return _queued(network, call, instance, body, "reaction", emoji, extra={"key": {"id": target}})


def read_message(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    """``POST /read-message``: 204 without content, for unknown ids too."""
    message_id = body.get("messageId")
    if _jid(body.get("phone")) is None:
        return _refused("Invalid phone")
    if not isinstance(message_id, str) or not message_id:
        return _refused("MessageId is required")
    if instance.state != "open":
        return _refused("You need to be connected")
    network.mark_read(instance, message_id, call.now)
    return empty_reply(204)


HANDLERS: Final[dict[str, dict[str, Callable[..., Reply]]]] = {
    "send-text": {"POST": send_text},
    "send-image": {"POST": _media("image", "picture", "image/")},
    "send-audio": {"POST": _media("audio", "audio", "audio/")},
    "send-document": {"POST": send_document},
    "send-reaction": {"POST": send_reaction},
    "read-message": {"POST": read_message},
}
