"""Redis: appends to a stream or a list. Channels are not supported: Redis drops a message without a subscriber."""

from __future__ import annotations

from typing import Any, Literal

from redis.exceptions import ResponseError

from dynamodb_outbox import ConfigurationError
from dynamodb_outbox.publishers.brokers.outgoing import Outgoing, header_text
from dynamodb_outbox.publishers.brokers.target import unconfirmed

RedisType = Literal["stream", "list"]


class RedisTarget:
    """A stream or a list. The destination is its key."""

    def __init__(self, broker: Any, *, redis_type: str) -> None:
        if redis_type not in {"stream", "list"}:
            raise ConfigurationError(
                f"redis_type={redis_type!r}: it must be 'stream' or 'list'; a channel loses every message that nobody "
                "listens to"
            )
        self._broker = broker
        self._type = redis_type

    async def send(self, message: Outgoing, destination: str) -> None:
        """Append to the stream or the list; the reply is an id, or the length of the list."""
        reply = await self._broker.publish(
            message.body,
            headers=message.headers,
            correlation_id=header_text(message.correlation_id),
            **{self._type: destination},
        )
        if not isinstance(reply, (bytes, str) if self._type == "stream" else int) or not reply:
            raise unconfirmed(f"Redis {self._type} {destination!r}", reply, fix="a middleware has replaced the reply")

    async def verify(self, destination: str) -> None:
        """Ask Redis what the key is. A key that is not there is made by the first event."""
        connection = await self._broker.connect()
        found = await connection.type(destination)
        found = found.decode() if isinstance(found, bytes) else found
        if found not in (self._type, "none"):
            raise ConfigurationError(
                f"Redis key {destination!r} is a {found}, and redis_type is {self._type!r}; choose another destination"
            )

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether Redis has answered with an error, such as OOM, WRONGTYPE or READONLY."""
        return isinstance(error, ResponseError)
