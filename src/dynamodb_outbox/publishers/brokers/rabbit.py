"""RabbitMQ: publishes persistent, mandatory messages, and waits for the confirm of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError
from pamqp.commands import Basic

from dynamodb_outbox import ConfigurationError, Reject, TargetError
from dynamodb_outbox.publishers.brokers.outgoing import Outgoing
from dynamodb_outbox.publishers.brokers.target import unconfirmed

_SHORT: Final = 255
"""How many bytes a property of a message has at most."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The earliest time that a property of a message can have. The body has the right one."""
_TOO_LARGE: Final = re.compile(r"message size \d+ is larger than configured max size (\d+)")
_IN_FLIGHT: Final[WeakKeyDictionary[Any, dict[str, anyio.Lock]]] = WeakKeyDictionary()


class RabbitTarget:
    """An exchange. The destination is a routing key, which is the name of a queue in the default exchange."""

    def __init__(self, broker: Any, *, exchange: Any) -> None:
        self._broker = broker
        self._exchange = exchange

    async def send(self, message: Outgoing, destination: str) -> None:
        """Publish, and look at the confirm. A message that no queue takes comes back in place of a confirm."""
        message_id = _short(message.event.id)
        async with _alone(self._broker, message_id):
            try:
                result = await self._broker.publish(
                    message.body,
                    routing_key=destination,
                    exchange=self._exchange,
                    mandatory=True,
                    persist=True,
                    headers=message.headers,
                    content_type=message.content_type,
                    message_id=message_id,
                    correlation_id=_short(message.correlation_id),
                    message_type=_short(message.event.type),
                    timestamp=max(message.event.occurred_at, _EARLIEST),
                )
            except ChannelPreconditionFailed as error:
                # The server closes the channel, so other messages that are under way fail with the same error.
                limit = _TOO_LARGE.search(str(error))
                if limit is not None and len(message.body) > int(limit[1]):
                    raise Reject(f"RabbitMQ refused the event: {error}") from error
                raise
        self._check(result, destination)

    async def verify(self, destination: str) -> None:
        """Ask RabbitMQ whether the exchange is there; without one, whether the queue is there."""
        exchange = getattr(self._exchange, "name", self._exchange)
        connection = await self._broker.connect()
        # RabbitMQ closes the channel if the queue or exchange is missing, so this is not the channel of the broker.
        async with connection.channel() as channel:
            try:
                if exchange:
                    await channel.declare_exchange(exchange, passive=True)
                else:
                    await channel.declare_queue(destination, passive=True)
            except ChannelNotFoundEntity as error:
                what = f"exchange {exchange!r}" if exchange else f"queue {destination!r}"
                raise ConfigurationError(
                    f"RabbitMQ has no {what}: {error}; declare it before the bus starts"
                ) from error

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether RabbitMQ has answered with a negative confirm."""
        return isinstance(error, DeliveryError)

    def _check(self, result: Any, destination: str) -> None:
        returned = getattr(result, "delivery", None)
        if isinstance(returned, Basic.Return):
            raise TargetError(
                target=f"RabbitMQ queue {destination!r}",
                code=returned.reply_text or "NO_ROUTE",
                reason=f"exchange {returned.exchange!r} has no queue for routing key {destination!r}",
            )
        if not isinstance(result, Basic.Ack):
            raise unconfirmed(
                "RabbitMQ", result, fix="publish with a broker whose default channel has publisher confirms"
            )


@asynccontextmanager
async def _alone(broker: Any, message_id: str) -> AsyncGenerator[None]:
    """Keep a second message with this id waiting until the first one is confirmed.

    aiormq finds out by the message id which message has come back. Of two with the same id, such as those of two
    handlers of an event, the wrong one would fail, and the one that came back would be confirmed.
    """
    locks = _IN_FLIGHT.setdefault(broker, {})
    lock = locks.setdefault(message_id, anyio.Lock())
    try:
        async with lock:
            yield
    finally:
        if not lock.locked() and not lock.statistics().tasks_waiting and locks.get(message_id) is lock:
            del locks[message_id]


def _short(text: str) -> str:
    return text if len(text.encode()) <= _SHORT else hashlib.sha256(text.encode()).hexdigest()
