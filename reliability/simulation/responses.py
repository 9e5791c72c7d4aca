"""The errors of DynamoDB, in the shape of botocore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from reliability.simulation.values import Item

_STATUS: Final[Mapping[str, int]] = {"InternalServerError": 500, "ServiceUnavailable": 503}


def client_error(code: str, message: str, *, operation: str, **fields: Any) -> ClientError:
    """Make the exception of a call that was answered with an error."""
    status = _STATUS.get(code, 400)
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 0, "HTTPHeaders": {}},
        **fields,
    }
    return ClientError(response, operation)


class Refusal(Exception):  # noqa: N818 - an answer of the backend, which each operation renders differently
    """One write is refused. `item` is the item whose condition was false.

    With `applied` the write takes place although the response is an error, as with an InternalServerError.
    """

    def __init__(self, code: str, message: str, *, item: Item | None = None, applied: bool = False) -> None:
        self.code = code
        self.message = message
        self.item = item
        self.applied = applied
        super().__init__(f"{code}: {message}")

    def raised_by(self, operation: str) -> ClientError:
        """Render the refusal as the error of a call."""
        fields = {} if self.item is None else {"Item": dict(self.item)}
        code = self.code if self.code in _UNSUFFIXED else f"{self.code}Exception"
        return client_error(code, self.message, operation=operation, **fields)

    def of_statement(self, table_name: str) -> dict[str, Any]:
        """Render the refusal as the error of one statement."""
        code = _OF_STATEMENT.get(self.code, self.code)
        return {"Error": {"Code": code, "Message": self.message}, "TableName": table_name}

    def as_reason(self) -> dict[str, Any]:
        """Render the refusal as a cancellation reason of a transaction."""
        code = _OF_REASON.get(self.code, self.code)
        reason: dict[str, Any] = {"Code": code, "Message": self.message}
        return reason if self.item is None else {**reason, "Item": dict(self.item)}


CONDITION: Final = "ConditionalCheckFailed"
CONFLICT: Final = "TransactionConflict"
DUPLICATE: Final = "DuplicateItem"
THROTTLED: Final = "Throttling"
EXCEEDED: Final = "ProvisionedThroughputExceeded"
INVALID: Final = "Validation"
INTERNAL: Final = "InternalServerError"
"""The codes of refusals, without the ending that they have as exceptions of calls."""

_UNSUFFIXED: Final = frozenset({INTERNAL})
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html and
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CancellationReason.html
_OF_STATEMENT: Final = {THROTTLED: "ThrottlingError", INVALID: "ValidationError"}
_OF_REASON: Final = {THROTTLED: "ThrottlingError", INVALID: "ValidationError"}


def condition_failed(item: Item | None) -> Refusal:
    """Make the refusal of a write whose condition is false."""
    return Refusal(CONDITION, "The conditional request failed", item=item)


def duplicate_item() -> Refusal:
    """Make the refusal of an INSERT whose key is taken. DynamoDB does not return the item."""
    return Refusal(DUPLICATE, "Duplicate primary key exists in table")


def cancelled(reasons: Sequence[Refusal | None], *, operation: str) -> ClientError:
    """Make the exception of a cancelled transaction; None stands for a write that was not the reason."""
    codes = ", ".join(reason.as_reason()["Code"] if reason else "None" for reason in reasons)
    return client_error(
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        operation=operation,
        CancellationReasons=[reason.as_reason() if reason else {"Code": "None"} for reason in reasons],
    )
