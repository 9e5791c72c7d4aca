"""The simulated DynamoDB: its operations on tables, with the requests and replies of the low-level API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from reliability.simulation import batches, reading, writes
from reliability.simulation.capacity import Gate, Open
from reliability.simulation.requests import Parameters, UnknownRequestError
from reliability.simulation.responses import Refusal, client_error
from reliability.simulation.table import Change, IndexLag, Table, no_lag
from reliability.simulation.writes import Write

Reply = dict[str, Any]


class Backend:
    """Tables, and the operations on them. Each operation is atomic, at the time of the clock.

    `gate` may refuse single writes. `lag` decides when each of the `replicas` of an index shows a change, and
    `choose_replica` chooses the replica that a query reads. `on_written` gets every change, its caller,
    and the number of its transaction, which is 0 for a single write.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        gate: Gate | None = None,
        lag: IndexLag = no_lag,
        replicas: int = 1,
        choose_replica: Callable[[], int] = lambda: 0,
        on_written: Callable[[Change, str, int], None] = lambda change, asked_by, transaction: None,
    ) -> None:
        self.tables: dict[str, Table] = {}
        self.clock = clock
        self.choose_replica = choose_replica
        self.deletes_missing = False
        """Whether a PartiQL DELETE with a condition succeeds for an item that is missing; see `writes.statement`."""
        self.committed: dict[str, tuple[float, Any]] = {}
        self.gate: Gate = gate or Open()
        self._on_written = on_written
        self._asked_by = ""
        self._transactions = 0
        self._lag = lag
        self._replicas = replicas

    def execute(self, operation: str, parameters: Parameters, *, asked_by: str = "") -> Reply:
        """Execute a call of a client. Raises `ClientError` like the SDK, and other errors for unsupported requests."""
        self._asked_by = asked_by
        if operation not in _OPERATIONS:
            raise UnknownRequestError(f"the operation {operation} is not known here")
        try:
            return _OPERATIONS[operation](self, parameters)
        except Refusal as refusal:
            raise refusal.raised_by(operation) from None

    def table(self, name: str, operation: str) -> Table:
        """Find a table. Raises `ClientError`."""
        if name not in self.tables:
            raise table_missing(operation)
        return self.tables[name]

    def admitted(self, write: Write, *, factor: int = 1) -> Refusal | None:
        """Return the refusal of a write, from the gate or from its condition, or None."""
        refusal = self.gate.admit(write.change, table_name=write.table.name, now=self.clock(), factor=factor)
        return refusal or write.refusal

    def make(self, write: Write) -> None:
        """Check and apply a write. Raises `Refusal`."""
        refusal = self.admitted(write)
        if refusal is None or (refusal.applied and write.refusal is None):
            self.apply(write)
        if refusal is not None:
            raise refusal

    def apply(self, write: Write, *, transaction: int = 0) -> None:
        """Apply an admitted write."""
        write.table.apply(write.change, now=self.clock())
        self._on_written(write.change, self._asked_by, transaction)

    def apply_all(self, transaction: Sequence[Write]) -> None:
        """Apply the admitted writes of a transaction."""
        self._transactions += 1
        for write in transaction:
            self.apply(write, transaction=self._transactions)

    def create_table(self, parameters: Parameters) -> Reply:
        """Create a table, without a delay."""
        name = parameters["TableName"]
        if name in self.tables:
            raise client_error("ResourceInUseException", "Cannot create preexisting table", operation="create_table")
        self.tables[name] = Table.of(parameters, replicas=self._replicas)
        self.tables[name].lag = self._lag
        return {"TableDescription": self._description(self.tables[name])}

    def describe_table(self, parameters: Parameters) -> Reply:
        """Describe a table."""
        return {"Table": self._description(self.table(parameters["TableName"], "describe_table"))}

    def _description(self, table: Table) -> Reply:
        indexes = [{**index, "IndexStatus": "ACTIVE"} for index in table.definition.get("GlobalSecondaryIndexes", [])]
        return {**table.definition, "TableStatus": "ACTIVE", "GlobalSecondaryIndexes": indexes}

    def describe_time_to_live(self, parameters: Parameters) -> Reply:
        """Return the attribute of the time to live; items never expire here."""
        attribute = self.table(parameters["TableName"], "describe_time_to_live").time_to_live
        if attribute is None:
            return {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}}

    def update_time_to_live(self, parameters: Parameters) -> Reply:
        """Take note of the attribute."""
        table = self.table(parameters["TableName"], "update_time_to_live")
        table.time_to_live = parameters["TimeToLiveSpecification"]["AttributeName"]
        return {"TimeToLiveSpecification": parameters["TimeToLiveSpecification"]}

    def put_item(self, parameters: Parameters) -> Reply:
        """Put an item."""
        self.make(writes.put(self.table(parameters["TableName"], "put_item"), parameters))
        return {}

    def delete_item(self, parameters: Parameters) -> Reply:
        """Delete an item."""
        rest = dict(parameters)
        if rest.pop("ReturnValues", "NONE") != "NONE":
            raise UnknownRequestError("a deletion returns nothing here")
        self.make(writes.delete(self.table(parameters["TableName"], "delete_item"), rest))
        return {}

    def update_item(self, parameters: Parameters) -> Reply:
        """Update an item, and return the new item on request."""
        rest = dict(parameters)
        returning = rest.pop("ReturnValues", "NONE")
        if returning not in ("NONE", "ALL_NEW"):
            raise UnknownRequestError(f"ReturnValues={returning} is not known here")
        write = writes.update(self.table(parameters["TableName"], "update_item"), rest)
        self.make(write)
        return {"Attributes": dict(write.change.new or {})} if returning == "ALL_NEW" else {}


def table_missing(operation: str) -> ClientError:
    """Make the exception for a missing table."""
    return client_error(
        "ResourceNotFoundException", "Cannot do operations on a non-existent table", operation=operation
    )


_OPERATIONS: Final[Mapping[str, Callable[[Backend, Parameters], Reply]]] = {
    "create_table": Backend.create_table,
    "describe_table": Backend.describe_table,
    "describe_time_to_live": Backend.describe_time_to_live,
    "update_time_to_live": Backend.update_time_to_live,
    "put_item": Backend.put_item,
    "delete_item": Backend.delete_item,
    "update_item": Backend.update_item,
    "get_item": reading.get_item,
    "batch_get_item": reading.batch_get_item,
    "query": reading.query,
    "batch_write_item": batches.batch_write_item,
    "batch_execute_statement": batches.batch_execute_statement,
    "transact_write_items": batches.transact_write_items,
}
OPERATIONS: Final = frozenset(_OPERATIONS)
"""The supported operations, by the names of client methods."""
