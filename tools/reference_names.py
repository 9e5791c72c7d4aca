"""Which public name is on which page of docs/reference/, in the order of the page."""

from __future__ import annotations

from typing import Final

HEALTH_NAMES: Final = ("Health", "HealthStatus", "Check", "HealthOptions", "Sampler")
BUS_NAMES: Final = ("OutboxEventBus", "HandlerOptions", "Handler", "Middleware", "CallNext", *HEALTH_NAMES)
OUTBOX_NAMES: Final = ("DynamoDBOutbox", "InMemoryOutbox")
EVENT_NAMES: Final = (
    "Event",
    "event_type",
    "EventType",
    "upcast",
    "FailedEvent",
    "EventStatus",
    "EventState",
    "StoredEvent",
    "Page",
    "Sample",
    "Count",
    "FailedSelector",
    "Repaired",
    "Hold",
    "Delivery",
    "Transaction",
    "TransactionWrite",
    "RetryLater",
    "Reject",
    "Backoff",
    "ExponentialBackoff",
    "FixedBackoff",
)
OBSERVER_NAMES: Final = ("Observer", "LoggingObserver", "Observation")
NOT_CONSTRUCTED: Final = ("Delivery", "Transaction", "Dashboard")
"""Classes whose objects the library makes: users do not call their constructors."""
INTERNAL: Final = frozenset({
    "Event.take_unpublished", "Event.as_already_stored", "Event.id_number", "Event.has_made_id", "EventType.read",
    "EventType.check_readable", "EventType.upcasters_from", "Transaction.join", "Transaction.refuse_for",
    "Transaction.fingerprint", "Request.up", "Request.form", "Response.with_headers",
})  # fmt: skip
"""Methods that only other parts of the library call."""
