"""The meaning of a DynamoDB error: whether the call can be repeated, and whether it may have been applied."""

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
    InvalidRequestError,
    ItemTooLargeError,
    StorageError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
    UnavailableError,
)


class ErrorKind(Enum):
    """How a call went wrong."""

    REFUSED = "its condition was false"
    CANCELLED = "the transaction was cancelled, and a repeat cannot succeed"
    THROTTLED = "throttled, not applied"
    UNSENT = "never sent, not applied"
    AMBIGUOUS = "maybe applied"
    FATAL = "a repeat cannot succeed"


_KIND_OF_CODE: Final[Mapping[str, ErrorKind]] = {
    # The error codes of single calls, and of PartiQL statements, where most lack "Exception".
    "ConditionalCheckFailedException": ErrorKind.REFUSED,
    "ConditionalCheckFailed": ErrorKind.REFUSED,
    # A PartiQL INSERT of an id that an item has.
    "DuplicateItem": ErrorKind.REFUSED,
    "DuplicateItemException": ErrorKind.REFUSED,
    "ProvisionedThroughputExceededException": ErrorKind.THROTTLED,
    "ProvisionedThroughputExceeded": ErrorKind.THROTTLED,
    "ThrottlingException": ErrorKind.THROTTLED,
    "ThrottlingError": ErrorKind.THROTTLED,
    "RequestLimitExceeded": ErrorKind.THROTTLED,
    "SlowDown": ErrorKind.THROTTLED,
    # A transaction of another client holds the item for a moment.
    "TransactionConflictException": ErrorKind.THROTTLED,
    "TransactionConflict": ErrorKind.THROTTLED,
    "TransactionInProgressException": ErrorKind.AMBIGUOUS,
    "InternalServerError": ErrorKind.AMBIGUOUS,
    "InternalFailure": ErrorKind.AMBIGUOUS,
    "ServiceUnavailable": ErrorKind.AMBIGUOUS,
    "RequestTimeout": ErrorKind.AMBIGUOUS,
    "RequestTimeoutException": ErrorKind.AMBIGUOUS,
    # The SDK could not read the body of an error, and uses the HTTP status as its code.
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
NOT_ALLOWED: Final = ("AccessDenied", "NotAuthorized")
"""Error codes for valid credentials whose role lacks the permission."""
_INVALID_CODES: Final = frozenset({"ValidationException", "ValidationError"})
_CREDENTIALS_ERRORS: Final = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNSENT_ERRORS: Final = (ConnectTimeoutError, ProxyConnectionError)
# aiobotocore raises EndpointConnectionError for every broken connection, even if the connection broke after the
# request was sent. Only these causes, of aiohttp and of httpx, prove that the client never connected.
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
"""Messages of DynamoDB and its emulators for a table or an index with other keys than the outbox needs."""
# Messages of aiohttp and aiobotocore for a closed client, raised before anything is sent.
_CLOSED_MESSAGES: Final = (
    "session is closed",
    "'nonetype' object has no attribute 'get'",
    "'nonetype' object has no attribute 'request'",
    "connector is closed",
)
# Messages of asyncio for a connection of another loop, possibly raised only after the request was sent.
_FOREIGN_MESSAGES: Final = ("different loop", "different event loop", "event loop is closed")
_SERVER_ERROR: Final = 500


VERIFY: Final = "`await outbox.verify_table()` lists every difference of the outbox's table"


def concerns_all(error: StorageError) -> bool:
    """Tell whether an error concerns the table or the client, so that all other writes fail too."""
    return type(error) not in (StorageError, ItemTooLargeError, InvalidRequestError)


def kind_of(error: BaseException) -> ErrorKind:
    """Classify an exception. After an unknown exception, the call may have been applied."""
    if isinstance(error, ClientError):
        if code_of(error) == "TransactionCanceledException":
            codes = {str(reason.get("Code", "None")) for reason in cancellation_reasons(error)} - {"None"}
            # A repeat can succeed only if all reasons pass by themselves. An SDK may drop the reasons.
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
    """Classify the error code of a call or a statement."""
    kind = _KIND_OF_CODE.get(code)
    if kind is None:
        kind = ErrorKind.AMBIGUOUS if status >= _SERVER_ERROR else ErrorKind.FATAL
    return kind


def cancellation_reasons(error: ClientError) -> list[dict[str, Any]]:
    """Read why a transaction was cancelled: one reason per item, in order. Empty for another error."""
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


_NO_RESPONSE: Final = "DynamoDB did not respond to an earlier attempt, which may have been applied"


def with_maybe_applied(error: StorageError, *, why: str = _NO_RESPONSE) -> StorageError:
    """Return the error with `maybe_applied` true: usually because an earlier attempt of the write got no response."""
    if error.maybe_applied:
        return error
    if isinstance(error, (ThrottledError, UnavailableError)):
        return restated(error, maybe_applied=True)
    doubted = type(error).__new__(type(error))
    doubted.__dict__.update(error.__dict__, maybe_applied=True)
    doubted.args = (f"{error}; {why}",)
    doubted.__cause__ = error.__cause__
    return doubted


def restated(error: ThrottledError | UnavailableError, *, maybe_applied: bool) -> ThrottledError | UnavailableError:
    """Return the error with another `maybe_applied`, and with the text for it."""
    facts: dict[str, Any] = {"operation": error.operation, "attempts": error.attempts, "reason": error.reason}
    if isinstance(error, UnavailableError):
        facts["table_name"] = error.table_name
    made = type(error)(**facts, maybe_applied=maybe_applied)
    made.__cause__ = error.__cause__
    return made


def fatal_error(error: BaseException, *, operation: str, table_name: str, index_name: str) -> StorageError:
    """Translate an error that a repeat cannot change into an error of the library."""
    if isinstance(error, StorageError):
        return error
    if is_closed(error):
        is_foreign = _is_foreign(error)
        return ClientClosedError(
            operation=operation,
            reason=str(error),
            closed=not is_foreign,
            maybe_applied=is_foreign,
            table_name=table_name,
        )
    if isinstance(error, _CREDENTIALS_ERRORS):
        return CredentialsError(operation=operation, reason=str(error), missing=isinstance(error, NoCredentialsError))
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", error))
        return fatal_code(code_of(error), message, operation=operation, table_name=table_name, index_name=index_name)
    if isinstance(error, BotoCoreError):
        return StorageError(f"{operation} cannot be sent: {error}")
    return StorageError(f"{operation} failed: {type(error).__name__}: {error}")


def fatal_code(code: str, message: str, *, operation: str, table_name: str, index_name: str) -> StorageError:
    """Translate the error code of a call or a statement into an error of the library."""
    lower = message.lower()
    if code in _CREDENTIALS_CODES:
        return CredentialsError(operation=operation, reason=f"{code}: {message}")
    if "index" in lower and ("specified index" in lower or "invalid index" in lower):
        return IndexNotFoundError(table_name=table_name, index_name=index_name)
    if code in {"ResourceNotFoundException", "ResourceNotFound"}:
        return TableNotFoundError(table_name=table_name)
    if any(text in lower for text in _SCHEMA_MESSAGES):
        return _mismatch(f"{operation} was refused: {message}; ", operation=operation, table_name=table_name)
    is_too_large = "item size" in lower
    if is_too_large or code in _INVALID_CODES:
        kind = ItemTooLargeError if is_too_large else InvalidRequestError
        return kind(operation=operation, reason=f"{code}: {message}")
    return StorageError(f"{operation} was refused: {code}: {message}")


def _mismatch(refusal: str, *, operation: str, table_name: str) -> StorageError:
    if operation == "transact_write_items":
        # The user's own writes in the transaction may be for another table, with other keys.
        return StorageError(f"{refusal}check the keys of your own writes, and {VERIFY}")
    return TableMismatchError(table_name=table_name, differences=[refusal + VERIFY])


def code_of(error: ClientError) -> str:
    """Read the error code of a response."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _http_status(error: ClientError) -> int:
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))
