"""The public names are a promise: a change here is a change for users."""

from __future__ import annotations

import inspect

import dynamodb_outbox
from dynamodb_outbox import errors

WORDS = {
    "Backoff", "CallNext", "CancellationReason", "Claim", "Completed", "Delivery", "DynamoDBOutbox", "EmitClaim",
    "Event",
    "EventStatus", "ExponentialBackoff", "Failed", "FailedEvent", "FixedBackoff", "Handler", "HandlerDone",
    "HandlerOptions", "InMemoryOutbox", "LoggingObserver", "Middleware", "Observation", "Observer", "Outbox",
    "OutboxEventBus", "OutboxOptions", "Outcome", "Recovered", "Reject", "Released", "Retry", "RetryLater",
    "Transaction", "TransactionWrite",
}  # fmt: skip


def error_classes() -> set[str]:
    return {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}


def test_exported_names() -> None:
    assert set(dynamodb_outbox.__all__) == WORDS | error_classes()
    assert dynamodb_outbox.__all__ == sorted(dynamodb_outbox.__all__)
    assert all(hasattr(dynamodb_outbox, name) for name in dynamodb_outbox.__all__)


def test_every_error_has_one_root_and_stands_in_the_tree_of_the_docstring() -> None:
    assert errors.__doc__ is not None
    for name in error_classes():
        assert issubclass(getattr(errors, name), errors.OutboxError)
        assert f" {name}" in errors.__doc__ or name == "OutboxError", name


def test_every_public_thing_is_documented() -> None:
    for name in dynamodb_outbox.__all__:
        thing = getattr(dynamodb_outbox, name)
        if not inspect.isclass(thing):
            continue
        assert thing.__doc__, name
        for attribute, value in vars(thing).items():
            if not attribute.startswith("_") and inspect.isfunction(value):
                assert value.__doc__, f"{name}.{attribute}"
