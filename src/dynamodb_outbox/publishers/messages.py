"""Messages of SQS and SNS: a body, and attributes to filter by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

from dynamodb_outbox import ConfigurationError, Event
from dynamodb_outbox.publishers.cloudevents import CONTENT_TYPE, structured
from dynamodb_outbox.publishers.fitting_ids import deduplication_id, fitting_id
from dynamodb_outbox.publishers.json_form import to_json

MessageFormat = Literal["cloudevents", "payload"]
"""The body of a message: the event as a CloudEvent in JSON, or its payload alone in JSON."""

_TRACE_CONTEXT: Final = ("traceparent", "tracestate")
_REFUSED: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The code points that XML 1.0 excludes."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and its size in bytes as AWS counts it."""

    body: str
    attributes: dict[str, dict[str, Any]]
    size: int


def check_format(format: object) -> None:
    """Raise `ConfigurationError` unless the value is a `MessageFormat`."""
    if format not in get_args(MessageFormat):
        raise ConfigurationError(
            f"format={format!r}: it must be one of {', '.join(map(repr, get_args(MessageFormat)))}"
        )


def message_of(event: Event, *, format: MessageFormat, source: str) -> Message:
    """Make the message of an event. It has at most six attributes: a receiver behind SNS may get ten at most."""
    texts = {"type": event.type}
    if format == "cloudevents":
        body = structured(event, source=source)
        texts["content-type"] = CONTENT_TYPE
    else:
        body = to_json(event.payload)
        texts |= {"content-type": "application/json", "id": event.id, "time": event.occurred_at.isoformat()}
    for name in _TRACE_CONTEXT:
        value = event.metadata.get(name)
        if isinstance(value, str) and value:
            texts[name] = value
    texts = {name: without_control_characters(text) for name, text in texts.items()}
    attributes = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
    size = len(body.encode()) + sum(len(name) + len("String") + len(text.encode()) for name, text in texts.items())
    return Message(body, attributes, size)


def without_control_characters(text: str) -> str:
    """Percent-encode the characters that SQS and SNS refuse in an attribute.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    """
    return _REFUSED.sub(lambda found: quote(found[0], safe=""), text)


def group_of(
    event: Event, group: Callable[[Event], str | None] | None, *, is_fifo: bool, source: str
) -> dict[str, str]:
    """Return the group and the deduplication id of a message, as far as the queue or the topic takes them."""
    name = None if group is None else group(event)
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"group= must return None, or a string that is not empty, not {name!r}")
    if name is None and is_fifo:
        name = event.id if event.ordering_key is None else event.ordering_key
    ids = {} if name is None else {"MessageGroupId": fitting_id(name)}
    return ids | {"MessageDeduplicationId": deduplication_id(event, source=source)} if is_fifo else ids
