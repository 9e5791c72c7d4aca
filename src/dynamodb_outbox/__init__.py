"""A transactional outbox on DynamoDB: events stored with your data, delivered at least once.

outbox = DynamoDBOutbox(client, table_name="events-outbox")
bus = OutboxEventBus(outbox)

The other public modules are `dynamodb_outbox.errors`, `dynamodb_outbox.observers` (the observations),
`dynamodb_outbox.adapter` (for authors of storage adapters), `dynamodb_outbox.publishers` (to forward events),
`dynamodb_outbox.web` (the dashboard), and the integrations
`dynamodb_outbox.integrations.opentelemetry`, `dynamodb_outbox.integrations.emf`,
`dynamodb_outbox.integrations.fastapi` and `dynamodb_outbox.integrations.aiohttp`. Every other module is private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import (
    CancellationReason,
    ClientClosedError,
    ConfigurationError,
    CredentialsError,
    DeliveryError,
    DuplicateEventError,
    DuplicateHandlerError,
    EventTooLargeError,
    HandlerError,
    HandlerStuckError,
    HandlerTimeoutError,
    IndexNotFoundError,
    InvalidEventError,
    InvalidPayloadError,
    InvalidRequestError,
    ItemTooLargeError,
    LeaseLostError,
    LoopBlockedError,
    MiddlewareError,
    NoHandlerError,
    OutboxError,
    PartialPublishError,
    PollingError,
    PublishError,
    RecoveryError,
    RepairRefusedError,
    SettleError,
    StorageError,
    StoredEventError,
    TableMismatchError,
    TableNotFoundError,
    TargetError,
    ThrottledError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UnavailableError,
    UnknownVersionError,
    UnregisteredClassError,
    UnstorableValueError,
    UsageError,
    WaitTimeoutError,
    WindowLostError,
    WorkerError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.handlers import Handler, HandlerOptions
from dynamodb_outbox.health import Check, Health, HealthOptions, HealthStatus
from dynamodb_outbox.middleware import CallNext, Middleware
from dynamodb_outbox.observers import LoggingObserver, Observer
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.repairs import FailedSelector, Hold, Repaired
from dynamodb_outbox.retry import Backoff, ExponentialBackoff, FixedBackoff
from dynamodb_outbox.stored_events import Count, EventState, Page, Sample, StoredEvent
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.typed.event_types import EventType, event_type
from dynamodb_outbox.typed.upcasting import upcast

if TYPE_CHECKING:
    from dynamodb_outbox.bus import OutboxEventBus
    from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox
    from dynamodb_outbox.memory.outbox import InMemoryOutbox
    from dynamodb_outbox.sampling import Sampler

__all__ = [
    "Backoff",
    "CallNext",
    "CancellationReason",
    "Check",
    "ClientClosedError",
    "ConfigurationError",
    "Count",
    "CredentialsError",
    "Delivery",
    "DeliveryError",
    "DuplicateEventError",
    "DuplicateHandlerError",
    "DynamoDBOutbox",
    "Event",
    "EventState",
    "EventStatus",
    "EventTooLargeError",
    "EventType",
    "ExponentialBackoff",
    "FailedEvent",
    "FailedSelector",
    "FixedBackoff",
    "Handler",
    "HandlerError",
    "HandlerOptions",
    "HandlerStuckError",
    "HandlerTimeoutError",
    "Health",
    "HealthOptions",
    "HealthStatus",
    "Hold",
    "InMemoryOutbox",
    "IndexNotFoundError",
    "InvalidEventError",
    "InvalidPayloadError",
    "InvalidRequestError",
    "ItemTooLargeError",
    "LeaseLostError",
    "LoggingObserver",
    "LoopBlockedError",
    "Middleware",
    "MiddlewareError",
    "NoHandlerError",
    "Observer",
    "OutboxError",
    "OutboxEventBus",
    "Page",
    "PartialPublishError",
    "PollingError",
    "PublishError",
    "RecoveryError",
    "Reject",
    "RepairRefusedError",
    "Repaired",
    "RetryLater",
    "Sample",
    "Sampler",
    "SettleError",
    "StorageError",
    "StoredEvent",
    "StoredEventError",
    "TableMismatchError",
    "TableNotFoundError",
    "TargetError",
    "ThrottledError",
    "Transaction",
    "TransactionCancelledError",
    "TransactionTooLargeError",
    "UnavailableError",
    "UnknownVersionError",
    "UnregisteredClassError",
    "UnstorableValueError",
    "UsageError",
    "WaitTimeoutError",
    "WindowLostError",
    "WorkerError",
    "event_type",
    "upcast",
]

_ON_DEMAND = {
    "DynamoDBOutbox": "dynamodb_outbox.dynamodb.outbox",
    "InMemoryOutbox": "dynamodb_outbox.memory.outbox",
    "OutboxEventBus": "dynamodb_outbox.bus",
    "Sampler": "dynamodb_outbox.sampling",
}
"""The names whose modules import the AWS SDK or asyncio, which takes half a second. They are imported at first use, so
that a program that needs neither starts at once, such as the help of the command line."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ON_DEMAND[name]), name)
    globals()[name] = value
    return value
