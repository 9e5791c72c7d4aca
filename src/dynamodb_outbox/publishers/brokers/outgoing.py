"""The message of an event, for any broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from dynamodb_outbox import Event
from dynamodb_outbox.publishers.cloudevents import CONTENT_TYPE, structured
from dynamodb_outbox.publishers.json_form import to_json
from dynamodb_outbox.publishers.messages import MessageFormat

_PRINTABLE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_CORRELATION: Final = ("correlationId", "correlation_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message. `headers` are ASCII; `content-type` is one of them."""

    event: Event
    source: str
    body: bytes
    headers: dict[str, str]
    correlation_id: str

    @property
    def content_type(self) -> str:
        """The type of the body."""
        return self.headers["content-type"]


def outgoing_of(event: Event, *, format: MessageFormat, source: str) -> Outgoing:
    """Make the message of an event."""
    headers = {"message_id": header_text(event.id), "type": header_text(event.type)}
    if format == "cloudevents":
        body = structured(event, source=source)
        headers["content-type"] = CONTENT_TYPE
    else:
        body = to_json(event.payload)
        headers |= {"content-type": "application/json", "time": event.occurred_at.isoformat()}
    return Outgoing(
        event=event,
        source=source,
        body=body.encode(),
        headers=headers | _trace_context(event.metadata),
        correlation_id=_correlation_id(event),
    )


def header_text(text: str) -> str:
    """Percent-encode a text as CloudEvents does in the headers of HTTP.

    The client of NATS removes spaces and line ends. For Redis, FastStream counts the characters of a header as bytes.
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values
    """
    return quote(text, safe=_PRINTABLE)


def _trace_context(metadata: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: metadata.get(name) for name in ("traceparent", "tracestate")}
    return {
        name: text
        for name, text in texts.items()
        if isinstance(text, str) and text and text.isascii() and text.isprintable()
    }


def _correlation_id(event: Event) -> str:
    for name in _CORRELATION:
        value = event.metadata.get(name)
        if isinstance(value, str) and value:
            return value
    return event.id
