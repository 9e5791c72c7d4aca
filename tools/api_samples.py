"""Examples of the library's errors and observations, made from one sample value for each name of a parameter."""

from __future__ import annotations

import inspect
import logging
from datetime import UTC, datetime
from typing import Any, Final

from dynamodb_outbox import Event, EventStatus
from dynamodb_outbox.errors import (
    CancellationReason,
    ConfigurationError,
    DuplicateEventError,
    OutboxError,
    UnavailableError,
)
from dynamodb_outbox.observers import LoggingObserver

_EVENT: Final = Event("order.placed", {"order": "A-1"}, id="A-1", occurred_at=datetime(2026, 1, 2, tzinfo=UTC))
_OTHER: Final = Event("order.placed", {"order": "A-2"}, id="A-2", occurred_at=datetime(2026, 1, 2, tzinfo=UTC))
_REASON: Final = CancellationReason(
    index=0,
    operation="Put",
    table_name="orders",
    key={},
    event_id=None,
    code="ConditionalCheckFailed",
    message="The conditional request failed",
)
_SAMPLES: Final[dict[str, Any]] = {
    "message": "",
    "event": _EVENT,
    "event_id": "A-1",
    "event_type": "order.placed",
    "ordering_key": "order-17",
    "repair": "skip",
    "handler": "bill",
    "handlers": ("bill",),
    "name": "bill",
    "attempt": 2,
    "attempts": 3,
    "errors": 3,
    "cause": TimeoutError("the bank did not answer"),
    "error": "bill: TimeoutError: the bank did not answer",
    "seconds": 12.0,
    "delay": 2.0,
    "occurred_at": _EVENT.occurred_at,
    "claims": 3,
    "slots": 50,
    "slots_taken": 12,
    "retry_in": 4.0,
    "lease_expires_at": 1_767_312_030.0,
    "due_at": None,
    "failed": False,
    "operation": "update_item",
    "loop": "polling",
    "outcome": "complete",
    "worker": "w-0123456789ab",
    "status": EventStatus.COMPLETED,
    "replaced_by": None,
    "reason": "Could not connect to the endpoint URL",
    "path": "payload.lines[3].price",
    "size": 410_000,
    "limit": 401_408,
    "what": "called call_next twice; call it once",
    "middleware": "shop.tracing.trace",
    "table_name": "events-outbox",
    "index_name": "status-gsiSortKey-index",
    "differences": ["the index 'status-gsiSortKey-index' is missing"],
    "maybe_applied": True,
    "published": [_EVENT],
    "reasons": [_REASON],
    "writes": 90,
    "events": 20,
    "records": 0,
    "items": 110,
    "window": "5f0c3d9a7b1e4826",
    "tombstones": 180,
    "version": 3,
    "known": 2,
    "payload_class": "OrderPlaced",
    "max_items": 100,
    "max_size": 4_194_304,
}
_OF_CLASS: Final[dict[str, dict[str, Any]]] = {
    "UnstorableValueError": {"reason": "DynamoDB cannot store nan as a number; store None or a string"},
    "UnregisteredClassError": {"payload_class": type("OrderPlaced", (), {})},
    "InvalidPayloadError": {"reason": "it must be Decimal, not a dict with 2 keys"},
    "StoredEventError": {"reason": "the attribute 'payload' is not of the type M"},
    "CredentialsError": {"reason": "The security token included in the request is expired"},
    "InvalidRequestError": {
        "operation": "transact_write_items",
        "reason": "ValidationException: Transaction request cannot include multiple operations on one item",
    },
    "TargetError": {"target": "SQS queue 'orders'", "code": "ThrottlingException", "reason": "Rate exceeded"},
    "EventFailed": {"reason": "retries_exhausted"},
    "StorageCalled": {"operation": "claim", "events": 3, "seconds": 0.012, "error": None},
    "ItemTooLargeError": {"reason": "ValidationException: Item size to update has exceeded the maximum allowed size"},
    "ThrottledError": {"reason": "The level of configured provisioned throughput was exceeded"},
    "ClientClosedError": {"reason": "", "closed": True},
    "RecoveryError": {
        "cause": UnavailableError(operation="update_item", attempts=3, reason=_SAMPLES["reason"], maybe_applied=False)
    },
    "WaitTimeoutError": {"message": "2 PENDING and 1 PROCESSING events are left after 5 s"},
    "PartialPublishError": {"failed": [_OTHER], "causes": {_OTHER.id: DuplicateEventError(event_id=_OTHER.id)}},
    "TransactionTooLargeError": {"size": 120_000},
}


class NoSampleError(LookupError):
    """A parameter of an error or an observation has no sample value here."""


def message_of(error: type[OutboxError]) -> str:
    """Return the message of an example of the error; empty for a class whose message is given where it is raised."""
    return str(error(**_arguments_of(error)))


def log_level_of(observation: type[Any]) -> str:
    """Return the level at which a `LoggingObserver` logs the observation."""
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("dynamodb_outbox.reference")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [_Collector(records)]
    LoggingObserver(logger)(observation(**_arguments_of(observation)))
    return records[0].levelname


class _Collector(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(record)


def _arguments_of(cls: type[Any]) -> dict[str, Any]:
    """Take a sample for each parameter that has no default, and for those that are given for the class."""
    own = _OF_CLASS.get(cls.__name__, {})
    arguments = dict(own)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name in own or name == "self" or parameter.default is not parameter.empty or parameter.kind in _VARIADIC:
            continue
        if name not in _SAMPLES:
            raise NoSampleError(f"add a sample of the parameter {name!r} of {cls.__name__} to tools/api_samples.py")
        arguments[name] = _SAMPLES[name]
    return arguments


_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def range_of(make: Any, option: str) -> str:
    """Return what an option accepts, in the words of the error that refuses a bad value."""
    try:
        make(**{option: object()})
    except ConfigurationError as error:
        return str(error).partition("must be ")[2] or str(error).partition("must have ")[2]
    raise NoSampleError(f"the option {option!r} accepts anything; it should be checked")
