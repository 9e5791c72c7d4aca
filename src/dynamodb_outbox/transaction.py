"""Transactions: writes to the user's tables and events, collected and committed as one."""

# The arguments have the names that AWS gives them in the entries of TransactWriteItems.
# ruff: noqa: N803

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import UUID

from dynamodb_outbox.emit_options import EmitOptions, event_of
from dynamodb_outbox.errors import ConfigurationError, UsageError
from dynamodb_outbox.event import Event, with_metadata, with_payload
from dynamodb_outbox.fingerprint import Fingerprint, fingerprint_of
from dynamodb_outbox.wording import shape

_IMMUTABLE: Final = frozenset({str, int, float, bool, type(None), bytes, Decimal, datetime, UUID})
_STRINGS: Final = ("TableName", "UpdateExpression", "ConditionExpression", "ReturnValuesOnConditionCheckFailure")
Operation = Literal["Put", "Update", "Delete", "ConditionCheck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionWrite:
    """A write of a transaction to one of your tables, with the arguments of its entry in TransactWriteItems."""

    operation: Operation
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEmit:
    """One event of a transaction. `accepted`: the event has passed the emit middleware already."""

    event: Event
    options: EmitOptions
    accepted: bool = False


class Transaction:
    """Collects writes and events. The end of the `async with` block commits all of them, or none.

    The methods take the arguments of the low-level TransactWriteItems entries. `Item`, `Key` and
    `ExpressionAttributeValues` hold plain Python values, `{"id": "a", "n": 1}`, or low-level ones,
    `{"id": {"S": "a"}, "n": {"N": "1"}}`, but not both in one mapping. Nothing is sent before the end of the
    block, and after an exception inside the block nothing is sent at all.

    The end of the block raises `TransactionTooLargeError` for more than 100 items or 4 MB, `TransactionCancelledError`
    if a condition was false, `DuplicateEventError` if the only reason is an event that is stored already, and
    `StorageError`. After a conflict with another transaction, the commit is tried again for ten seconds.
    """

    def __init__(
        self,
        commit: Callable[[Transaction], Awaitable[None]],
        *,
        make_event: Callable[..., Event] = event_of,
        prepare: Callable[[Event], Event],
        outbox: object,
    ) -> None:
        self._commit = commit
        self._outbox = outbox
        self._prepare = prepare
        self._make_event = make_event
        self._state: Literal["new", "open", "closed"] = "new"
        self.writes: list[TransactionWrite] = []
        self.emits: list[TransactionEmit] = []

    def put(
        self,
        *,
        TableName: str,
        Item: Mapping[str, Any],
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValuesOnConditionCheckFailure: str | None = None,
    ) -> None:
        """Put an item."""
        self._add("Put", locals())

    def update(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        UpdateExpression: str,
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValuesOnConditionCheckFailure: str | None = None,
    ) -> None:
        """Update an item, or create it."""
        self._add("Update", locals())

    def delete(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValuesOnConditionCheckFailure: str | None = None,
    ) -> None:
        """Delete an item."""
        self._add("Delete", locals())

    def check(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        ConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValuesOnConditionCheckFailure: str | None = None,
    ) -> None:
        """Require that a condition is true for an item that the transaction does not change."""
        self._add("ConditionCheck", locals())

    def emit(
        self,
        type_or_event: object,
        payload: Any = None,
        *,
        id: str | None = None,
        occurred_at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        ordering_key: str | None = None,
        delay: float | None = None,
        deliver_at: datetime | None = None,
        if_exists: Literal["raise"] = "raise",
    ) -> Event:
        """Add an event, which is stored with the writes. This call is not awaited.

        The arguments have the same meaning as in `bus.emit`. If an event of the id is stored already, nothing of the
        transaction is written; so `if_exists="ignore"` raises `ConfigurationError`. The emit middleware runs at the end
        of the block, and may replace or drop the event that is returned here.
        """
        options = EmitOptions(delay=delay, deliver_at=deliver_at, if_exists=if_exists)
        options.refuse_in_transaction()
        self._check_open()
        event = self._make_event(
            type_or_event, payload, id=id, occurred_at=occurred_at, metadata=metadata, ordering_key=ordering_key
        )
        options.refuse_for([event])
        event = self._prepare(event)
        self.join(TransactionEmit(event=event, options=options))
        return event

    def join(self, emit: TransactionEmit) -> None:
        """Add an event that `bus.emit(..., transaction=tx)` made, as it is now."""
        self._check_open()
        event = with_metadata(with_payload(emit.event, _copied(emit.event.payload)), _copied(emit.event.metadata))
        self.emits.append(replace(emit, event=event))

    def refuse_for(self, outbox: object) -> None:
        """Raise `UsageError` if the events of another outbox are to join: they would be stored in the wrong table."""
        if outbox is self._outbox:
            return
        own, other = (getattr(each, "table_name", None) for each in (self._outbox, outbox))
        if own is None or own != other:
            raise UsageError(
                "the transaction belongs to a bus of another outbox, which would store the event in its table; emit "
                "the event with that bus, or begin a transaction of this one"
            )

    def fingerprint(self) -> Fingerprint | None:
        """Take a fingerprint that a transaction with the same writes and events has, too; None if there is none.

        The ids that this process has made are left out, because a repeat makes other ones.
        """
        writes = [(write.operation, dict(write.arguments)) for write in self.writes]
        return fingerprint_of((writes, [_content(emit) for emit in self.emits]))

    def _add(self, operation: Operation, arguments: dict[str, Any]) -> None:
        self._check_open()
        given = {name: _copied(value) for name, value in arguments.items() if name != "self" and value is not None}
        for name in ("Item", "Key", "ExpressionAttributeNames", "ExpressionAttributeValues"):
            if name in given and not isinstance(given[name], Mapping):
                raise ConfigurationError(f"{operation}: {name} must be a mapping, not {shape(given[name])}")
        for name, value in given.get("ExpressionAttributeNames", {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ConfigurationError(
                    f"{operation}: ExpressionAttributeNames must have strings only, not {shape(name)}: {shape(value)}"
                )
        for name in _STRINGS:
            if name in given and (not isinstance(given[name], str) or not given[name]):
                raise ConfigurationError(
                    f"{operation}: {name} must be a string that is not empty, not {shape(given[name])}"
                )
        self.writes.append(TransactionWrite(operation=operation, arguments=given))

    def _check_open(self) -> None:
        if self._state == "new":
            raise UsageError("the transaction is not open yet: use it inside of `async with`")
        if self._state == "closed":
            raise UsageError("the transaction is over: begin another one with bus.transaction()")

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise UsageError("a transaction is used once: begin another one with bus.transaction()")
        self._state = "open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._state = "closed"
        if error is None:
            await self._commit(self)


def _content(emit: TransactionEmit) -> tuple[Any, ...]:
    event, options = emit.event, emit.options
    event_id = None if event.has_made_id else event.id
    return event_id, event.type, event.payload, event.ordering_key, options.delay, options.deliver_at


def _copied(value: Any) -> Any:
    """Copy what a caller may change before the commit. A value that contains itself is refused by the commit."""
    try:
        return _copy_of(value)
    except RecursionError:
        return value


def _copy_of(value: Any) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if isinstance(value, Mapping):
        return {key: _copy_of(member) for key, member in value.items()}
    if kind is list:
        return [_copy_of(member) for member in value]
    if kind is memoryview:
        return bytes(value)
    try:
        return deepcopy(value)
    except RecursionError:
        raise
    except Exception:  # any: of the value's own class
        return value
