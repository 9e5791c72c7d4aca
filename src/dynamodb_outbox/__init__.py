"""A transactional outbox on DynamoDB: events stored with your data, delivered at least once.

outbox = DynamoDBOutbox(client, table_name="events-outbox")
bus = OutboxEventBus(outbox)
"""

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox
from dynamodb_outbox.errors import (
    ClientClosedError,
    ConfigurationError,
    CredentialsError,
    DeliveryError,
    DuplicateEventError,
    DuplicateHandlerError,
    EventTooLargeError,
    HandlerError,
    HandlerTimeoutError,
    IndexNotFoundError,
    InvalidEventError,
    LeaseLostError,
    NoHandlerError,
    OutboxError,
    PartialPublishError,
    PollingError,
    PublishError,
    SettleError,
    StorageError,
    StoredEventError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
    UnavailableError,
    UnstorableValueError,
    WaitTimeoutError,
    WorkerError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.handlers import Handler
from dynamodb_outbox.memory import InMemoryOutbox
from dynamodb_outbox.middleware import CallNext, Middleware
from dynamodb_outbox.outbox import Claim, Outbox, OutboxOptions, Recovered
from dynamodb_outbox.outcome import Completed, Failed, Outcome, Reject, Released, Retry, RetryLater

__all__ = [
    "CallNext",
    "Claim",
    "ClientClosedError",
    "Completed",
    "ConfigurationError",
    "CredentialsError",
    "Delivery",
    "DeliveryError",
    "DuplicateEventError",
    "DuplicateHandlerError",
    "DynamoDBOutbox",
    "Event",
    "EventStatus",
    "EventTooLargeError",
    "Failed",
    "FailedEvent",
    "Handler",
    "HandlerError",
    "HandlerTimeoutError",
    "InMemoryOutbox",
    "IndexNotFoundError",
    "InvalidEventError",
    "LeaseLostError",
    "Middleware",
    "NoHandlerError",
    "Outbox",
    "OutboxError",
    "OutboxEventBus",
    "OutboxOptions",
    "Outcome",
    "PartialPublishError",
    "PollingError",
    "PublishError",
    "Recovered",
    "Reject",
    "Released",
    "Retry",
    "RetryLater",
    "SettleError",
    "StorageError",
    "StoredEventError",
    "TableMismatchError",
    "TableNotFoundError",
    "ThrottledError",
    "UnavailableError",
    "UnstorableValueError",
    "WaitTimeoutError",
    "WorkerError",
]
