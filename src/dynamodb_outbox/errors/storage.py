"""Errors of storage: DynamoDB refused a request, or could not be reached."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.event_errors import OutboxError
from dynamodb_outbox.wording import times

_READS: Final = frozenset({"batch_get_item", "describe_table", "describe_time_to_live", "get_item", "query", "scan"})
"""A read changes nothing, so its error does not say whether it was applied."""
_ACTION: Final = re.compile(r"not authorized to perform: ([a-z0-9-]+:\w+)")
"""How AWS names the action that a role lacks."""


class StorageError(OutboxError):
    """DynamoDB refused a request, or could not be reached.

    `maybe_applied` is true if DynamoDB did not respond to a request: the request may have taken effect.
    """

    maybe_applied: bool = False


class TableNotFoundError(StorageError):
    """The table does not exist in this account, region and endpoint.

    DynamoDB does not say which table of a transaction is missing: `among` lists the tables of the transaction.
    """

    def __init__(self, *, table_name: str, among: Sequence[str] = (), outbox_table: str | None = None) -> None:
        self.table_name = table_name
        self.among = list(among)
        outbox_table = table_name if outbox_table is None else outbox_table
        tables = self.among or [table_name]
        names = ", ".join(repr(name) for name in tables)
        create = "with `await outbox.create_table()` (development) or with the templates (production)"
        if tables == [outbox_table]:
            advice = f"create it {create}"
        elif outbox_table in tables:
            advice = (
                f"create {outbox_table!r}, the table of the outbox, {create}; create your other tables yourself, "
                "because the outbox does not"
            )
        else:
            advice = "create the table yourself, because it is not the table of the outbox"
        super().__init__(
            f"{f'one of the tables {names}' if len(tables) > 1 else f'the table {names}'} does not exist here; check "
            f"the name, the region and the endpoint, or {advice}"
        )


class IndexNotFoundError(StorageError):
    """The table does not have the status index `index_name`."""

    def __init__(self, *, table_name: str, index_name: str) -> None:
        self.table_name = table_name
        self.index_name = index_name
        super().__init__(
            f"the table {table_name!r} has no index {index_name!r}, so workers find no events; "
            "call `await outbox.verify_table()`, which lists what to change"
        )


class TableMismatchError(StorageError):
    """The table has other keys, other indexes or another time to live than the outbox needs; see `differences`."""

    def __init__(self, *, table_name: str, differences: Sequence[str]) -> None:
        self.table_name = table_name
        self.differences = list(differences)
        lines = "".join(f"\n  - {difference}" for difference in self.differences)
        super().__init__(
            f"the table {table_name!r} does not fit the outbox:{lines}\n"
            "Change the table with the templates of this library, or use another table_name"
        )


class CredentialsError(StorageError):
    """The credentials are missing or expired, or do not allow `operation`. `reason` is the text of the AWS SDK.

    `missing` is true if the SDK found no credentials, so that nothing was sent. `action` is the IAM action that the
    role lacks, such as "dynamodb:PartiQLDelete", or None if the reason names none.
    """

    def __init__(self, *, operation: str, reason: str, missing: bool = False) -> None:
        self.operation = operation
        self.reason = reason
        self.missing = missing
        named = _ACTION.search(reason)
        self.action: str | None = named[1] if named else None
        if missing:
            problem = f"{operation} failed: the AWS SDK found no credentials ({reason})"
            advice = "configure a role or a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        else:
            problem = f"{operation} was not allowed: {reason}"
            advice = (
                "check the credentials, and compare the permissions of the role with the library's IAM policy template"
                if self.action is None
                else f"allow {self.action}, as the library's IAM policy template does"
            )
            if self.action is not None and self.action.startswith("dynamodb:PartiQL"):
                advice += ', or pass conditional_writes="auto", which can do without'
        super().__init__(f"{problem}; {advice}")


class InvalidRequestError(StorageError):
    """DynamoDB refused a request as invalid, such as a transaction that writes one item twice.

    `reason` is the code and the text of DynamoDB.
    """

    def __init__(self, *, operation: str, reason: str) -> None:
        self.operation = operation
        self.reason = reason
        super().__init__(f"{operation} was refused: {reason}")


class ItemTooLargeError(StorageError):
    """A write would make an item larger than DynamoDB allows: 400 KB. `reason` is the code and the text of DynamoDB."""

    def __init__(self, *, operation: str, reason: str) -> None:
        self.operation = operation
        self.reason = reason
        super().__init__(f"{operation} was refused: {reason}")


class ThrottledError(StorageError):
    """DynamoDB throttled each of the `attempts` until the deadline of the call."""

    def __init__(self, *, operation: str, attempts: int, reason: str, maybe_applied: bool = False) -> None:
        self.operation = operation
        self.attempts = attempts
        self.reason = reason
        self.maybe_applied = maybe_applied
        is_doubtful = maybe_applied and operation not in _READS
        applied = " (an earlier attempt may have been applied)" if is_doubtful else ""
        super().__init__(
            f"{operation} was throttled {times(attempts)} until its deadline{applied}: {reason}; raise the capacity of "
            "the table, or set `shards` for more than about 500 events a second"
        )


class UnavailableError(StorageError):
    """DynamoDB could not be reached, or sent no valid response, until the deadline of the call.

    `table_name` is the table of the outbox, or None if it is not known.
    """

    def __init__(
        self, *, operation: str, attempts: int, reason: str, maybe_applied: bool, table_name: str | None = None
    ) -> None:
        self.operation = operation
        self.attempts = attempts
        self.reason = reason
        self.maybe_applied = maybe_applied
        self.table_name = table_name
        on_table = f" on table {table_name!r}" if table_name is not None else ""
        applied = "" if operation in _READS else f" (it {'may have been' if maybe_applied else 'was not'} applied)"
        super().__init__(
            f"{operation}{on_table} failed {times(attempts)}{applied}: {reason}; check the endpoint, the network and "
            "the region"
        )


class ClientClosedError(StorageError):
    """The client was closed, or belongs to another event loop. `closed` is true if the client itself was closed.

    `table_name` is the table of the outbox, or None if it is not known.
    """

    def __init__(
        self,
        *,
        operation: str,
        reason: str,
        closed: bool = False,
        maybe_applied: bool = False,
        table_name: str | None = None,
    ) -> None:
        self.operation = operation
        self.reason = reason
        self.closed = closed
        self.maybe_applied = maybe_applied
        self.table_name = table_name
        table = f" (table {table_name!r})" if table_name is not None else ""
        applied = f"; {operation} may have been applied" if maybe_applied else ""
        super().__init__(
            f"the DynamoDB client of this outbox is closed{table}{applied}; keep its `async with` block open while "
            "you use the bus and the outbox"
            if closed
            else f"{operation}{table} needs a DynamoDB client of this event loop ({reason}{applied}); create the "
            "client with `async with` in the loop that uses it, and create the outbox and the bus inside that block"
        )
