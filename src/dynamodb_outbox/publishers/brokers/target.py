"""What `FastStreamPublisher` needs of a broker."""

from __future__ import annotations

from typing import Protocol

from dynamodb_outbox import TargetError
from dynamodb_outbox.publishers.brokers.outgoing import Outgoing

NOT_CONNECTED = "IncorrectState"
"""The name of the error that FastStream raises before `broker.start()` and after `broker.stop()`."""


class BrokerTarget(Protocol):
    """A broker, and the place in it that events go to."""

    async def send(self, message: Outgoing, destination: str) -> None:
        """Publish a message, and return when the broker has confirmed it.

        Raises `Reject` if the broker can never take it, and any other exception if it is not confirmed.
        """
        ...

    async def verify(self, destination: str) -> None:
        """Check that a message can go to a destination, as far as the broker tells.

        Raises `ConfigurationError` if it cannot, and any other exception if that is unknown.
        """
        ...

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether the broker has certainly not taken the message that failed with this error."""
        ...


def unconfirmed(target: str, result: object, *, fix: str) -> TargetError:
    """Make the error of a publish that returned without a confirmation."""
    return TargetError(
        target=target,
        code="NotConfirmed",
        reason=f"publish returned {type(result).__name__}, which does not confirm anything; {fix}",
        maybe_sent=True,
    )
