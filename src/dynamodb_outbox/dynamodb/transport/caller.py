"""One call to DynamoDB: attempts until a deadline, and one error for failed attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import anyio
from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.transport.classify import (
    ErrorKind,
    cancellation_reasons,
    fatal_error,
    kind_of,
    with_maybe_applied,
)
from dynamodb_outbox.dynamodb.transport.client import DynamoDBClient
from dynamodb_outbox.dynamodb.transport.client_state import CLOSED, ClientState
from dynamodb_outbox.dynamodb.transport.responses import Read, UnreadableResponseError, was_repeated
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import ClientClosedError, StorageError
from dynamodb_outbox.observers import Observers, Throttled
from dynamodb_outbox.storage_calls import note_attempt


class ConditionRefused(Exception):  # noqa: N818 - internal: an answer, not an error
    """The condition of a write was false. `repeated`: an earlier attempt of the same write may have been applied."""

    def __init__(self, *, item: Mapping[str, Any] | None, repeated: bool) -> None:
        self.item = item
        self.repeated = repeated
        super().__init__("the condition is false")


FALSE_CONDITION: Final = "ConditionalCheckFailed"
"""The reason of an item of a cancelled transaction whose condition was false."""


class TransactionRefused(Exception):  # noqa: N818 - internal: an answer, not an error
    """A transaction was cancelled; a repeat cannot succeed. `repeated`: an earlier attempt may have been applied."""

    def __init__(self, *, reasons: Sequence[Mapping[str, Any]], repeated: bool) -> None:
        self.reasons = reasons
        self.repeated = repeated
        super().__init__("the transaction was cancelled")

    @property
    def given(self) -> list[Mapping[str, Any]]:
        """The reasons of the items that DynamoDB refused."""
        return [reason for reason in self.reasons if reason.get("Code", "None") != "None"]

    @property
    def text(self) -> str:
        """The reasons in words."""
        return "; ".join(f"{reason.get('Code')}: {reason.get('Message', '')}" for reason in self.given)

    @property
    def has_false_condition(self) -> bool:
        """Whether a condition was false: an item has changed since it was read."""
        return any(reason.get("Code") == FALSE_CONDITION for reason in self.given)

    @property
    def has_no_room(self) -> bool:
        """Whether an item has no room for its write, so that a smaller form may fit."""
        return bool(self.given) and all(
            reason.get("Code") == "ValidationError" and "item size" in str(reason.get("Message", "")).lower()
            for reason in self.given
        )


@dataclass(slots=True, kw_only=True)
class Caller:
    """Makes all calls of the adapter to DynamoDB."""

    client: DynamoDBClient
    table_name: str
    index_name: str
    random: Callable[[], float]
    observers: Observers
    _state: ClientState = field(init=False)

    def __post_init__(self) -> None:
        self._state = ClientState(self.client)

    async def call(
        self,
        operation: str,
        *,
        within: float,
        once: bool = False,
        patient: bool = True,
        read: Read | None = None,
        **params: Any,
    ) -> Any:
        """Call an operation until it succeeds, at most for `within` seconds. The operation must be safe to repeat.

        Returns the response, or the result of `read(response)`. If `read` fails, the call may have been applied.

        Raises `ConditionRefused` for a false condition and `TransactionRefused` for a cancelled transaction. Raises
        `UnavailableError` or `ThrottledError` at the deadline; with `once=True` after the first attempt; with
        `patient=False` at the first throttle. Raises another `StorageError` at once if a repeat cannot succeed. An
        error's `maybe_applied` covers all attempts, including the SDK's own repeats.
        """
        retries = Retries(within, random=self.random)
        maybe_applied = False
        while True:
            try:
                response = await self._attempt(operation, params, retries.seconds_left)
                return response if read is None else _read(response, read)
            except Exception as error:  # any: the HTTP client raises its own types too
                kind = kind_of(error)
                maybe_applied = maybe_applied or kind is ErrorKind.AMBIGUOUS or self._may_hide_an_attempt(error, kind)
                if kind in _FINAL:
                    self._raise_final(error, kind, operation, params, maybe_applied=maybe_applied)
                if kind is ErrorKind.THROTTLED and self.observers:
                    self.observers.notify(Throttled(operation=operation))
                delay = retries.next_delay()
                gives_up = once or (not patient and kind is ErrorKind.THROTTLED and not maybe_applied)
                if gives_up or delay is None:
                    raise deadline_error(
                        operation,
                        kind,
                        attempts=retries.attempts,
                        reason=error,
                        maybe_applied=maybe_applied,
                        table_name=self.table_name,
                    ) from error
            await anyio.sleep(delay)

    def _raise_final(
        self, error: Exception, kind: ErrorKind, operation: str, params: Mapping[str, Any], *, maybe_applied: bool
    ) -> NoReturn:
        """Raise the library's error for an error that no repeat can change."""
        if kind is ErrorKind.REFUSED:
            item = getattr(error, "response", {}).get("Item")
            raise ConditionRefused(item=item, repeated=maybe_applied) from None
        if kind is ErrorKind.CANCELLED and isinstance(error, ClientError):
            raise TransactionRefused(reasons=cancellation_reasons(error), repeated=maybe_applied) from error
        fatal = self.fatal(error, operation, index_name=params.get("IndexName"))
        raise (with_maybe_applied(fatal) if maybe_applied else fatal) from error

    async def _attempt(self, operation: str, params: dict[str, Any], seconds: float) -> Any:
        self.refuse_closed(operation)
        # A response may never come. Waiting half the time left allows a second attempt.
        try:
            with anyio.fail_after(max(seconds / 2, 0.1)):
                response = await getattr(self.client, operation)(**params)
        finally:
            note_attempt()
        self._state.connected()
        return response

    def refuse_closed(self, operation: str) -> None:
        """Raise `ClientClosedError` if the client is closed or belongs to another event loop; sends nothing."""
        if (obstacle := self._state.obstacle()) is not None:
            raise ClientClosedError(
                operation=operation, reason=obstacle, closed=obstacle == CLOSED, table_name=self.table_name
            )

    def _may_hide_an_attempt(self, error: Exception, kind: ErrorKind) -> bool:
        """Tell whether the SDK may have repeated the request by itself. Its error describes only the last attempt."""
        if isinstance(error, ClientError):
            return was_repeated(error.response)
        config = getattr(self.client.meta, "config", None)
        retries: Mapping[str, Any] = getattr(config, "retries", None) or {}
        return kind is ErrorKind.UNSENT and retries.get("total_max_attempts") != 1

    def fatal(self, error: BaseException, operation: str, *, index_name: str | None = None) -> StorageError:
        """Translate an error that a repeat cannot change into an error of the library."""
        index_name = index_name or self.index_name
        return fatal_error(error, operation=operation, table_name=self.table_name, index_name=index_name)


_FINAL = frozenset({ErrorKind.REFUSED, ErrorKind.CANCELLED, ErrorKind.FATAL})


def _read(response: Any, read: Read) -> Any:
    try:
        return read(response)
    except Exception as error:
        raise UnreadableResponseError(error) from error
