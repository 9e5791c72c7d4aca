"""Kafka: publishes with the ordering key as the key, and waits for the acknowledgement of the partition's leader."""

from __future__ import annotations

from typing import Any

from aiokafka.errors import MessageSizeTooLargeError, UnknownTopicOrPartitionError

from dynamodb_outbox import Reject
from dynamodb_outbox.publishers.brokers.outgoing import Outgoing, header_text
from dynamodb_outbox.publishers.brokers.target import unconfirmed


class KafkaTarget:
    """A cluster. The destination is a topic."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    async def send(self, message: Outgoing, destination: str) -> None:
        """Publish. With `acks=0`, the producer returns None, which does not confirm anything."""
        key = message.event.ordering_key
        try:
            result = await self._broker.publish(
                message.body,
                destination,
                key=None if key is None else key.encode(),
                headers=message.headers,
                correlation_id=header_text(message.correlation_id),
            )
        except MessageSizeTooLargeError as error:
            # The error of a cluster concerns all messages of a request, the error of the producer this one alone.
            if "when serialized" in str(error):
                raise Reject(f"Kafka topic {destination!r} cannot take the event: {error}") from error
            raise
        if result is None:
            raise unconfirmed(f"Kafka topic {destination!r}", result, fix="set acks of the broker to 'all'")

    async def verify(self, destination: str) -> None:
        """Check nothing: Kafka may make the topic when the first message comes."""

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether there is certainly no such topic."""
        return isinstance(error, UnknownTopicOrPartitionError)
