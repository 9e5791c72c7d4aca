"""NATS: publishes to JetStream, which acknowledges what it has stored. NATS alone does not acknowledge anything."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from nats.errors import BadSubjectError, MaxPayloadError
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from dynamodb_outbox import ConfigurationError, Reject
from dynamodb_outbox.publishers.brokers.outgoing import Outgoing, header_text
from dynamodb_outbox.publishers.brokers.target import unconfirmed

_TOO_LARGE_FOR_STREAM: Final = 10054
"""JSStreamMessageExceedsMaximumErr: the message is larger than `max_msg_size` of the stream."""


class NatsTarget:
    """A stream of JetStream. The destination is a subject of the stream."""

    def __init__(self, broker: Any, *, stream: str | None, timeout: float) -> None:
        if not stream or not isinstance(stream, str):
            raise ConfigurationError(
                f"stream={stream!r}: pass the name of the JetStream stream that has the subject; a subject without a "
                "stream loses every message that nobody listens to, and does not say so"
            )
        self._broker = broker
        self._stream = stream
        self._timeout = timeout

    async def send(self, message: Outgoing, destination: str) -> None:
        """Publish to the stream, with an id that JetStream recognises repeats by."""
        headers = message.headers | {
            "correlation_id": header_text(message.correlation_id),
            "Nats-Msg-Id": repeat_id(message, destination),
        }
        self._check_size(message, headers)
        try:
            ack = await self._broker.publish(
                message.body,
                destination,
                headers=headers,
                correlation_id=headers["correlation_id"],
                stream=self._stream,
                timeout=self._timeout,
            )
        except (MaxPayloadError, APIError) as error:
            if isinstance(error, APIError) and error.err_code != _TOO_LARGE_FOR_STREAM:
                raise
            raise Reject(f"NATS stream {self._stream!r} refused the event: {error}") from error
        if not isinstance(ack, PubAck):
            raise unconfirmed(f"NATS stream {self._stream!r}", ack, fix="a middleware has replaced the acknowledgement")

    async def verify(self, destination: str) -> None:
        """Ask JetStream whether the stream is there, and has the subject."""
        jetstream = self._broker.connection.jetstream()
        await jetstream.stream_info(self._stream)
        try:
            found = await jetstream.find_stream_name_by_subject(destination)
        except NotFoundError:
            found = None
        if found != self._stream:
            other = "no stream has it" if found is None else f"stream {found!r} has it"
            raise ConfigurationError(
                f"NATS stream {self._stream!r} does not have the subject {destination!r}, and {other}; add it to the "
                "subjects of the stream"
            )

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether no stream took the message."""
        return isinstance(error, (APIError, NoStreamResponseError, BadSubjectError))

    def _check_size(self, message: Outgoing, headers: dict[str, str]) -> None:
        # The client counts the body alone. The server counts the headers, too, and closes the connection.
        sent = headers | {"Nats-Expected-Stream": self._stream}
        size = (
            len(message.body) + len("NATS/1.0\r\n\r\n") + sum(len(f"{name}: {text}\r\n") for name, text in sent.items())
        )
        limit = self._broker.connection.max_payload
        if isinstance(limit, int) and size > limit:  # FastStream's broker for tests has no connection
            raise Reject(f"the event has {size:,} bytes, and NATS takes {limit:,} at most; raise its max_payload")


def repeat_id(message: Outgoing, subject: str) -> str:
    """Return the id by which JetStream recognises repeats.

    JetStream compares ids within a whole stream. Two services may have events with the same id, and two handlers may
    publish one event to two subjects, so the id of the event alone would lose messages.
    """
    return "/".join(quote(part, safe="") for part in (message.source, message.event.id, subject))
