"""What an exception of a DynamoDB call means: may it be repeated, may it have been applied, whose kind is it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
)

from dynamodb_outbox.errors import (
    ClientClosedError,
    CredentialsError,
    IndexNotFoundError,
    StorageError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
    UnavailableError,
)


class ErrorKind(Enum):
    """How a call went wrong."""

    REFUSED = "its condition was false"
    CANCELLED = "a transaction, refused for good"
    THROTTLED = "throttled, not applied"
    UNSENT = "never sent, not applied"
    AMBIGUOUS = "maybe applied"
    FATAL = "repeating is of no use"


_KIND_OF_CODE: Final[Mapping[str, ErrorKind]] = {
    # As exceptions of single calls, and as `Error.Code` of PartiQL statements.
    "ConditionalCheckFailedException": ErrorKind.REFUSED,
    "ConditionalCheckFailed": ErrorKind.REFUSED,
    "ProvisionedThroughputExceededException": ErrorKind.THROTTLED,
    "ProvisionedThroughputExceeded": ErrorKind.THROTTLED,
    "ThrottlingException": ErrorKind.THROTTLED,
    "ThrottlingError": ErrorKind.THROTTLED,
    "RequestLimitExceeded": ErrorKind.THROTTLED,
    "SlowDown": ErrorKind.THROTTLED,
    # Somebody's transaction holds the item for a moment.
    "TransactionConflictException": ErrorKind.THROTTLED,
    "TransactionConflict": ErrorKind.THROTTLED,
    "TransactionInProgressException": ErrorKind.AMBIGUOUS,
    "InternalServerError": ErrorKind.AMBIGUOUS,
    "InternalFailure": ErrorKind.AMBIGUOUS,
    "ServiceUnavailable": ErrorKind.AMBIGUOUS,
    "RequestTimeout": ErrorKind.AMBIGUOUS,
    "RequestTimeoutException": ErrorKind.AMBIGUOUS,
    # An error without a code: its body could not be read, and the SDK puts the status in the code's place.
    "": ErrorKind.AMBIGUOUS,
    "400": ErrorKind.AMBIGUOUS,
}
_CREDENTIALS_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_INVALID_CODES: Final = frozenset({"ValidationException", "ValidationError"})
_CREDENTIALS_ERRORS: Final = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNSENT_ERRORS: Final = (ConnectTimeoutError, ProxyConnectionError)
# aiobotocore says EndpointConnectionError of every broken connection, also of one that was reset after the
# request was sent. Only these causes, of aiohttp and of httpx, prove that there never was a connection.
_UNCONNECTED: Final = frozenset({"ClientConnectorError", "ConnectError", "gaierror"})
_SCHEMA_MESSAGES: Final = (
    "type mismatch for key",
    "type mismatch for index key",
    "missing the key",
    "missing key",
    "missed key schema element",
    "key element does not match",
    "required keys was not given",
    "number of conditions on the keys",
    "condition parameter type does not match",
    "mandatory equality on all key attributes",
    "should match its data type in table's schema",
)
"""What DynamoDB, and its emulators, say of keys that a table or an index has otherwise."""
# What aiohttp and aiobotocore say of a client that was closed, before they send anything.
_CLOSED_MESSAGES: Final = (
    "session is closed",
    "'nonetype' object has no attribute 'get'",
    "'nonetype' object has no attribute 'request'",
    "connector is closed",
)
# What asyncio says of connections of another loop, maybe only when the answer is awaited.
_FOREIGN_MESSAGES: Final = ("different loop", "different event loop", "event loop is closed")
_SERVER_ERROR: Final = 500


VERIFY: Final = "`await outbox.verify_table()` lists every difference of the outbox's table"


class ItemTooLargeError(StorageError):
    """An update would make the item larger than DynamoDB allows."""


class InvalidRequestError(StorageError):
    """DynamoDB cannot make sense of a request or a statement, or not with the item that it is about."""


def concerns_all(error: StorageError) -> bool:
    """Tell whether an error is of the table or the client, rather than of one write or one statement."""
    return type(error) not in (StorageError, ItemTooLargeError, InvalidRequestError)


def kind_of(error: BaseException) -> ErrorKind:
    """Classify an exception. What is unknown may have been applied."""
    if isinstance(error, ClientError):
        if code_of(error) == "TransactionCanceledException":
            codes = {str(reason.get("Code", "None")) for reason in cancellation_reasons(error)} - {"None"}
            # Only what stands in the way for a moment is worth another try; none is told where the SDK drops them.
            passing = codes and all(_KIND_OF_CODE.get(code) is ErrorKind.THROTTLED for code in codes)
            return ErrorKind.THROTTLED if passing else ErrorKind.CANCELLED
        return kind_of_code(code_of(error), status=_http_status(error))
    if is_closed(error):
        return ErrorKind.FATAL
    if isinstance(error, _UNSENT_ERRORS) or (isinstance(error, EndpointConnectionError) and _never_connected(error)):
        return ErrorKind.UNSENT
    if isinstance(error, (*_CREDENTIALS_ERRORS, NoRegionError, ParamValidationError, StorageError)):
        return ErrorKind.FATAL
    return ErrorKind.AMBIGUOUS


def kind_of_code(code: str, *, status: int = 0) -> ErrorKind:
    """Classify an error code of a call or of a statement."""
    kind = _KIND_OF_CODE.get(code)
    if kind is None:
        kind = ErrorKind.AMBIGUOUS if status >= _SERVER_ERROR else ErrorKind.FATAL
    return kind


def cancellation_reasons(error: ClientError) -> list[dict[str, Any]]:
    """Read why a transaction was cancelled, per item in its order; an empty list for another error."""
    reasons: list[dict[str, Any]] = error.response.get("CancellationReasons", [])
    return reasons


def _never_connected(error: EndpointConnectionError) -> bool:
    cause = error.kwargs.get("error")
    return any(kind.__name__ in _UNCONNECTED for kind in type(cause).__mro__)


def is_closed(error: BaseException) -> bool:
    """Tell whether the client is closed, or belongs to another event loop."""
    if not isinstance(error, (HTTPClientError, RuntimeError, AttributeError)):
        return False
    text = str(error).lower()
    return any(message in text for message in (*_CLOSED_MESSAGES, *_FOREIGN_MESSAGES))


def _is_foreign(error: BaseException) -> bool:
    text = str(error).lower()
    return any(message in text for message in _FOREIGN_MESSAGES)


def with_maybe_applied(error: StorageError) -> StorageError:
    """Return the error with `maybe_applied` true, because an earlier attempt of the same write was not answered."""
    if error.maybe_applied:
        return error
    if isinstance(error, (ThrottledError, UnavailableError)):
        return restated(error, maybe_applied=True)
    doubted = type(error).__new__(type(error))
    doubted.__dict__.update(error.__dict__, maybe_applied=True)
    doubted.args = (f"{error}; DynamoDB did not respond to an earlier attempt, which may have been applied",)
    doubted.__cause__ = error.__cause__
    return doubted


def restated(error: ThrottledError | UnavailableError, *, maybe_applied: bool) -> ThrottledError | UnavailableError:
    """Return the error with another `maybe_applied`, and a text that says so."""
    made = type(error)(
        operation=error.operation, attempts=error.attempts, reason=error.reason, maybe_applied=maybe_applied
    )
    made.__cause__ = error.__cause__
    return made


def fatal_error(error: BaseException, *, operation: str, table_name: str, index_name: str) -> StorageError:
    """Say in our words what is wrong when repeating is of no use."""
    if isinstance(error, StorageError):
        return error
    if is_closed(error):
        is_foreign = _is_foreign(error)
        return ClientClosedError(
            operation=operation, reason=str(error), closed=not is_foreign, maybe_applied=is_foreign
        )
    if isinstance(error, _CREDENTIALS_ERRORS):
        return CredentialsError(operation=operation, reason=str(error))
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", error))
        return fatal_code(code_of(error), message, operation=operation, table_name=table_name, index_name=index_name)
    if isinstance(error, BotoCoreError):
        return StorageError(f"{operation} cannot be sent: {error}")
    return StorageError(f"{operation} failed: {type(error).__name__}: {error}")


def fatal_code(code: str, message: str, *, operation: str, table_name: str, index_name: str) -> StorageError:
    """Say in our words what an error code means, of a call or of a statement."""
    lower = message.lower()
    if code in _CREDENTIALS_CODES:
        return CredentialsError(operation=operation, reason=f"{code}: {message}")
    if "index" in lower and ("specified index" in lower or "invalid index" in lower):
        return IndexNotFoundError(table_name=table_name, index_name=index_name)
    if code in {"ResourceNotFoundException", "ResourceNotFound"}:
        return TableNotFoundError(table_name=table_name)
    if any(text in lower for text in _SCHEMA_MESSAGES):
        return _mismatch(f"{operation} was refused: {message}; ", operation=operation, table_name=table_name)
    if "item size" in lower:
        return ItemTooLargeError(f"{operation} was refused: {message}")
    kind = InvalidRequestError if code in _INVALID_CODES else StorageError
    return kind(f"{operation} was refused: {code}: {message}")


def _mismatch(refusal: str, *, operation: str, table_name: str) -> StorageError:
    if operation == "transact_write_items":
        # The keys may be those of another table, which the user's own writes are for.
        return StorageError(f"{refusal}check the keys of your own writes, and {VERIFY}")
    return TableMismatchError(table_name=table_name, differences=[refusal + VERIFY])


def code_of(error: ClientError) -> str:
    """Read the error code of a reply."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _http_status(error: ClientError) -> int:
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))
