"""A transactional outbox on DynamoDB: events stored with your data, delivered at least once.

outbox = DynamoDBOutbox(client, table_name="events-outbox")
bus = OutboxEventBus(outbox)

The observations that observers are told of are in `dynamodb_outbox.observers`.
"""

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox
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
    LeaseLostError,
    LoopBlockedError,
    MiddlewareError,
    NoHandlerError,
    OutboxError,
    PartialPublishError,
    PollingError,
    PublishError,
    RecoveryError,
    SettleError,
    StorageError,
    StoredEventError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UnavailableError,
    UnstorableValueError,
    UsageError,
    WaitTimeoutError,
    WorkerError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.handlers import Handler, HandlerOptions
from dynamodb_outbox.memory import InMemoryOutbox
from dynamodb_outbox.middleware import CallNext, Middleware
from dynamodb_outbox.observers import (
    LoggingObserver,
    Observation,
    Observer,
)
from dynamodb_outbox.outcome import Completed, Failed, Outcome, Reject, Released, Retry, RetryLater
from dynamodb_outbox.port import Claim, EmitClaim, HandlerDone, Outbox, OutboxOptions, Recovered
from dynamodb_outbox.retry import Backoff, ExponentialBackoff, FixedBackoff
from dynamodb_outbox.transaction import Transaction, TransactionWrite

__all__ = [
    "Backoff",
    "CallNext",
    "CancellationReason",
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
    "EmitClaim",
    "Event",
    "EventStatus",
    "EventTooLargeError",
    "ExponentialBackoff",
    "Failed",
    "FailedEvent",
    "FixedBackoff",
    "Handler",
    "HandlerDone",
    "HandlerError",
    "HandlerOptions",
    "HandlerStuckError",
    "HandlerTimeoutError",
    "InMemoryOutbox",
    "IndexNotFoundError",
    "InvalidEventError",
    "LeaseLostError",
    "LoggingObserver",
    "LoopBlockedError",
    "Middleware",
    "MiddlewareError",
    "NoHandlerError",
    "Observation",
    "Observer",
    "Outbox",
    "OutboxError",
    "OutboxEventBus",
    "OutboxOptions",
    "Outcome",
    "PartialPublishError",
    "PollingError",
    "PublishError",
    "Recovered",
    "RecoveryError",
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
    "Transaction",
    "TransactionCancelledError",
    "TransactionTooLargeError",
    "TransactionWrite",
    "UnavailableError",
    "UnstorableValueError",
    "UsageError",
    "WaitTimeoutError",
    "WorkerError",
]
