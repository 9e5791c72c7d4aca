"""Every error of the library, in one tree.

OutboxError
├── ConfigurationError             an option or an argument has a value that cannot work
│   └── DuplicateHandlerError      two handlers of one name for one event type
├── UsageError                     a call at the wrong time or in the wrong place
├── MiddlewareError                a middleware broke a rule of its chain
├── RepairRefusedError             an event was not replaced, because it has another status
├── PublishError                   an emit or a transaction did not store all its events
│   ├── InvalidEventError          an event that cannot be stored; nothing was sent
│   │   ├── UnstorableValueError   a value that DynamoDB cannot hold, with its path
│   │   │   └── UnregisteredClassError   an instance of a class without an event type
│   │   └── EventTooLargeError     larger than a DynamoDB item may be
│   ├── DuplicateEventError        an event with the same id is stored already
│   ├── PartialPublishError        a call did not store some or all of its events
│   ├── TransactionTooLargeError   more than 100 items or 4 MB; nothing was sent
│   └── TransactionCancelledError  DynamoDB refused a transaction, with a reason for each refused item
├── StorageError                   DynamoDB refused a request, or could not be reached
│   ├── TableNotFoundError
│   ├── IndexNotFoundError
│   ├── TableMismatchError         the table is not the one this library needs
│   ├── CredentialsError           missing, expired or insufficient credentials
│   ├── InvalidRequestError        DynamoDB refused a request as invalid
│   ├── ItemTooLargeError          a write would make an item larger than DynamoDB allows
│   ├── ThrottledError
│   ├── UnavailableError           DynamoDB could not be reached, or sent no valid response
│   └── ClientClosedError          closed, or bound to another event loop
├── StoredEventError               a stored item cannot be read as an event
├── DeliveryError
│   ├── HandlerError               a handler raised
│   ├── HandlerTimeoutError        a handler reached its time limit
│   ├── HandlerStuckError          a handler did not end when it was cancelled
│   ├── LoopBlockedError           a handler blocked the event loop
│   ├── NoHandlerError             this process has no handler for the type
│   ├── InvalidPayloadError        a stored payload is not valid for the class of its handler
│   ├── UnknownVersionError        a payload has a newer version than the class of its handler
│   └── LeaseLostError             a write was refused: another worker has claimed the event
├── TargetError                    a publisher could not hand an event to its target
├── SettleError                    an outcome could not be written; the event is recovered later
├── RecoveryError                  an event whose lease ran out could not be written; the others are recovered
├── WindowLostError                the window of this worker was not renewed in time
├── PollingError                   a poll failed; the worker goes on
├── WorkerError                    an unexpected exception in the worker
└── WaitTimeoutError               `wait_for` or `drain` ran out of time
"""

from dynamodb_outbox.errors.delivery import (
    DeliveryError,
    HandlerError,
    HandlerStuckError,
    HandlerTimeoutError,
    InvalidPayloadError,
    LeaseLostError,
    LoopBlockedError,
    NoHandlerError,
    PollingError,
    RecoveryError,
    SettleError,
    StoredEventError,
    TargetError,
    UnknownVersionError,
    WindowLostError,
    WorkerError,
)
from dynamodb_outbox.errors.publishing import (
    CancellationReason,
    DuplicateEventError,
    PartialPublishError,
    TransactionCancelledError,
    TransactionTooLargeError,
)
from dynamodb_outbox.errors.storage import (
    ClientClosedError,
    CredentialsError,
    IndexNotFoundError,
    InvalidRequestError,
    ItemTooLargeError,
    StorageError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.errors.usage import (
    ConfigurationError,
    DuplicateHandlerError,
    MiddlewareError,
    RepairRefusedError,
    UsageError,
    WaitTimeoutError,
)
from dynamodb_outbox.event_errors import (
    EventTooLargeError,
    InvalidEventError,
    OutboxError,
    PublishError,
    UnregisteredClassError,
    UnstorableValueError,
)

__all__ = [
    "CancellationReason",
    "ClientClosedError",
    "ConfigurationError",
    "CredentialsError",
    "DeliveryError",
    "DuplicateEventError",
    "DuplicateHandlerError",
    "EventTooLargeError",
    "HandlerError",
    "HandlerStuckError",
    "HandlerTimeoutError",
    "IndexNotFoundError",
    "InvalidEventError",
    "InvalidPayloadError",
    "InvalidRequestError",
    "ItemTooLargeError",
    "LeaseLostError",
    "LoopBlockedError",
    "MiddlewareError",
    "NoHandlerError",
    "OutboxError",
    "PartialPublishError",
    "PollingError",
    "PublishError",
    "RecoveryError",
    "RepairRefusedError",
    "SettleError",
    "StorageError",
    "StoredEventError",
    "TableMismatchError",
    "TableNotFoundError",
    "TargetError",
    "ThrottledError",
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
]
