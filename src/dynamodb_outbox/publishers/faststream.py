"""`FastStreamPublisher`: sends events to NATS, Redis, RabbitMQ or Kafka through a broker of FastStream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import anyio

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers.brokers.outgoing import outgoing_of
from dynamodb_outbox.publishers.brokers.target import NOT_CONNECTED, BrokerTarget
from dynamodb_outbox.publishers.cloudevents import source_of
from dynamodb_outbox.publishers.messages import MessageFormat, check_format
from dynamodb_outbox.publishers.publisher import Publisher

NO_REASON: Final = "the error gives no reason"
_SECONDS: Final = 300
_OPTIONS: Final = {
    "NatsBroker": {"stream"},
    "RedisBroker": {"redis_type"},
    "RabbitBroker": {"exchange"},
    "KafkaBroker": set[str](),
}
_MODULES: Final = ("faststream.nats.", "faststream.redis.", "faststream.rabbit.", "faststream.kafka.")
_BROKERS: Final = "NatsBroker, RedisBroker, RabbitBroker or KafkaBroker"


class FastStreamPublisher(Publisher):
    """A handler that sends each event to a broker of FastStream. Register it with `bus.subscribe` or `bus.on`.

    An event is completed when the broker has confirmed it, and retried otherwise: `TargetError` says why. An event that
    the broker can never take is rejected: it becomes FAILED, and its error says why. An event may arrive twice, as with
    every handler.

    The publisher neither connects nor closes the broker. Connect it before `async with bus`, and close it afterwards.

    Args:
        broker: A `NatsBroker`, `RedisBroker`, `RabbitBroker` or `KafkaBroker` of FastStream.
        destination: Where events go: a subject of NATS, a stream or list of Redis, a routing key of RabbitMQ, which is
            the name of a queue unless you pass `exchange`, or a topic of Kafka. Or a function that returns it for an
            event.
        stream: The JetStream stream of the subject. NATS needs it, because it confirms nothing else.
        redis_type: What a destination of Redis is: `"stream"`, which is the default, or `"list"`.
        exchange: The exchange of RabbitMQ: a name or a `RabbitExchange`. By default the destination is a queue.
        format: `"cloudevents"` sends the event as a CloudEvent 1.0 in structured JSON, `"payload"` the payload alone in
            JSON, with `time` as a header.
        source: The `source` of the CloudEvents, such as `/shop`. The default is `dynamodb-outbox`.
        timeout: How long (seconds) to wait for the broker to confirm an event. The event is retried afterwards, so it
            may arrive twice.
    """

    def __init__(
        self,
        broker: Any,
        *,
        destination: str | Callable[[Event], str],
        stream: str | None = None,
        redis_type: Literal["stream", "list"] | None = None,
        exchange: Any = None,
        format: MessageFormat = "cloudevents",
        source: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._kind = _kind_of(broker)
        if not callable(destination):
            _check_destination(destination, self._kind)
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= _SECONDS:
            raise ConfigurationError(f"timeout={timeout!r}: it must be a number of seconds up to {_SECONDS}")
        check_format(format)
        options = {"stream": stream, "redis_type": redis_type, "exchange": exchange}
        for name, value in options.items():
            if value is not None and name not in _OPTIONS[self._kind]:
                raise ConfigurationError(f"{name}={value!r}: a {self._kind} has no such option")
        self._target = _target_of(self._kind, broker, options, timeout)
        self._broker = broker
        self._destination = destination
        self._format: MessageFormat = format
        self._source = source_of(source)
        self._timeout = timeout

    def __repr__(self) -> str:
        destination = self._destination if isinstance(self._destination, str) else "..."
        return f"{type(self).__name__}({self._kind}, destination={destination!r})"

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when the broker has confirmed it.

        Raises `TargetError`, and `Reject` if the broker can never take the event.
        """
        destination = self._destination
        if callable(destination):
            destination = _check_destination(destination(event), self._kind)
        message = outgoing_of(event, format=self._format, source=self._source)
        try:
            with anyio.fail_after(self._timeout):
                await self._target.send(message, destination)
        except (Reject, TargetError):
            raise
        except Exception as error:
            raise self._target_error(error, destination) from error

    async def verify(self) -> None:
        """Check that the broker is connected and answers, and that the destination fits.

        The latter is checked for JetStream (the stream has the subject), Redis (the key has the right type, or is not
        there) and RabbitMQ (the queue is there, or the exchange), not for Kafka, and not if `destination` is a
        function. Raises `TargetError` if the broker does not answer within `timeout` or refuses, and
        `ConfigurationError` if the destination does not fit.
        """
        destination = self._destination if isinstance(self._destination, str) else ""
        try:
            with anyio.fail_after(self._timeout):
                if not await self._broker.ping(self._timeout):
                    raise TimeoutError
                if destination:
                    await self._target.verify(destination)
        except ConfigurationError:
            raise
        except Exception as error:
            code, reason = type(error).__name__, str(error)
            if isinstance(error, TimeoutError):
                reason = f"no answer within {self._timeout:g} s; is the server there, and was broker.start() awaited?"
            target = f"{self._kind} {destination!r}" if destination else self._kind
            raise TargetError(target=target, code=code, reason=reason or NO_REASON, in_verify=True) from error

    def _target_error(self, error: Exception, destination: str) -> TargetError:
        code, reason = type(error).__name__, str(error)
        if code == NOT_CONNECTED:
            reason = "the broker is not connected; await broker.start() before the bus starts"
        elif isinstance(error, TimeoutError):
            reason = f"no confirmation within {self._timeout:g} s"
        return TargetError(
            target=f"{self._kind} {destination!r}",
            code=code,
            reason=reason or NO_REASON,
            maybe_sent=code != NOT_CONNECTED and not self._target.is_refusal(error),
        )


def _check_destination(destination: object, kind: str) -> str:
    if not isinstance(destination, str) or not destination:
        raise ConfigurationError(f"destination={destination!r}: it must be a name, or a function that returns a name")
    if kind == "NatsBroker" and not {"*", ">"}.isdisjoint(destination.split(".")):
        raise ConfigurationError(
            f"destination={destination!r}: it has a wildcard, and an event goes to one subject, such as 'orders.placed'"
        )
    return destination


def _kind_of(broker: object) -> str:
    """Return the name of the class in FastStream that a broker is an instance of, without an import of FastStream."""
    for cls in type(broker).__mro__:
        if cls.__name__ in _OPTIONS and cls.__module__.startswith(_MODULES):
            return cls.__name__
    raise ConfigurationError(f"broker={broker!r}: it must be a {_BROKERS} of FastStream")


def _target_of(kind: str, broker: Any, options: dict[str, Any], timeout: float) -> BrokerTarget:
    match kind:
        case "NatsBroker":
            from dynamodb_outbox.publishers.brokers.nats import NatsTarget  # noqa: PLC0415 - optional

            return NatsTarget(broker, stream=options["stream"], timeout=timeout)
        case "RedisBroker":
            from dynamodb_outbox.publishers.brokers.redis import RedisTarget  # noqa: PLC0415 - optional

            return RedisTarget(broker, redis_type=options["redis_type"] or "stream")
        case "RabbitBroker":
            from dynamodb_outbox.publishers.brokers.rabbit import RabbitTarget  # noqa: PLC0415 - optional

            return RabbitTarget(broker, exchange=options["exchange"])
        case _:
            from dynamodb_outbox.publishers.brokers.kafka import KafkaTarget  # noqa: PLC0415 - optional

            return KafkaTarget(broker)
