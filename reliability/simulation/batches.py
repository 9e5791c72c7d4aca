"""The operations that write several items: batches and transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from reliability.simulation import writes
from reliability.simulation.requests import Parameters, UnknownRequestError, check_parameters, invalid
from reliability.simulation.responses import EXCEEDED, INTERNAL, THROTTLED, Refusal, cancelled, client_error
from reliability.simulation.updates import AnyStatement, Insert, parse_statement
from reliability.simulation.values import Item

if TYPE_CHECKING:
    from reliability.simulation.backend import Backend

MAX_PUTS: Final = 25
MAX_STATEMENTS: Final = 25
MAX_TRANSACTION: Final = 100
TOKEN_SECONDS: Final = 600.0
"""How long DynamoDB remembers a ClientRequestToken."""


def batch_write_item(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Put items without conditions; throttled items are returned as unprocessed."""
    check_parameters(parameters, frozenset({"RequestItems"}))
    if sum(len(requests) for requests in parameters["RequestItems"].values()) > MAX_PUTS:
        raise invalid("Too many items requested for the BatchWriteItem call")
    unprocessed: dict[str, list[Any]] = {}
    refusal: Refusal | None = None
    worked_out: list[tuple[str, Any, writes.Write]] = []
    for name, requests in parameters["RequestItems"].items():
        table = backend.table(name, "batch_write_item")
        for request in requests:
            check_parameters(request, frozenset({"PutRequest"}))
            worked_out.append((name, request, writes.put(table, request["PutRequest"])))
    if len({(name, write.change.key) for name, _, write in worked_out}) < len(worked_out):
        raise invalid("Provided list of item keys contains duplicates")
    for name, request, write in worked_out:
        refused = backend.admitted(write)
        if refused is None:
            backend.apply(write)
        else:
            # Unprocessed items were not written, for any reason.
            refusal = refused
            unprocessed.setdefault(name, []).append(request)
    if refusal is not None and sum(map(len, unprocessed.values())) == len(worked_out):
        throttled = refusal.code in (THROTTLED, EXCEEDED)
        raise refusal if throttled else Refusal(THROTTLED, "None of the items could be processed")
    return {"UnprocessedItems": unprocessed}


def batch_execute_statement(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Execute conditional updates, inserts and deletions, each with a separate result."""
    check_parameters(parameters, frozenset({"Statements"}))
    if len(parameters["Statements"]) > MAX_STATEMENTS:
        raise invalid("Member must have length less than or equal to 25")
    parsed = _parsed(parameters)
    keys = keys_of_statements(parameters)
    if len(set(keys)) < len(keys):
        raise invalid("Members of the list must be unique")
    responses: list[dict[str, Any]] = []
    for statement, value in parsed:
        name = statement.table_name
        if name not in backend.tables:
            code, message = "ResourceNotFound", "Requested resource not found"
            responses.append({"Error": {"Code": code, "Message": message}, "TableName": name})
            continue
        try:
            write = writes.statement(backend.tables[name], statement, value, deletes_missing=backend.deletes_missing)
            backend.make(write)
        except Refusal as refusal:
            responses.append(refusal.of_statement(name))
        else:
            item = {"Item": dict(write.change.new or {})} if statement.returning else {}
            responses.append({"TableName": name, **item})
    return {"Responses": responses}


def keys_of_statements(parameters: Parameters) -> list[str]:
    """Read the keys of the items that statements change."""
    return [statement.key_in(values)["S"] for statement, values in _parsed(parameters)]


def items_of_statements(parameters: Parameters) -> list[Item]:
    """Read the items that statements insert."""
    return [each.item_of(values) for each, values in _parsed(parameters) if isinstance(each, Insert)]


def _parsed(parameters: Parameters) -> list[tuple[AnyStatement, dict[str, Any]]]:
    statements = [(parse_statement(each["Statement"]), each) for each in parameters["Statements"]]
    return [(statement, _values(each, statement.parameters)) for statement, each in statements]


def _values(statement: Parameters, parameters: int) -> dict[str, Any]:
    check_parameters(statement, frozenset({"Statement", "Parameters"}))
    given = statement["Parameters"]
    if len(given) != parameters:
        raise UnknownRequestError(f"{len(given)} parameters are given for {parameters} question marks")
    return {f":{index}": value for index, value in enumerate(given)}


def transact_write_items(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Make all writes or no write; a repeat with the same token changes nothing."""
    check_parameters(parameters, frozenset({"TransactItems", "ClientRequestToken"}))
    operation, entries = "transact_write_items", parameters["TransactItems"]
    token, now = parameters.get("ClientRequestToken"), backend.clock()
    known = backend.committed.get(token or "")
    if known is not None and now - known[0] < TOKEN_SECONDS:
        if known[1] != entries:
            raise client_error("IdempotentParameterMismatchException", "The parameters differ", operation=operation)
        return {}
    if len(entries) > MAX_TRANSACTION:
        raise invalid("Member must have length less than or equal to 100")
    worked_out: list[writes.Write] = []
    for entry in entries:
        ((kind, arguments),) = entry.items()
        worked_out.append(writes.OPERATIONS[kind](backend.table(arguments["TableName"], operation), arguments))
    if len({(write.table.name, write.change.key) for write in worked_out}) < len(worked_out):
        raise invalid("Transaction request cannot include multiple operations on one item")
    refusals = [write.refusal or backend.admitted(write, factor=2) for write in worked_out]
    internal = _internal_error(refusals, operation)
    if internal is not None and not internal.applied:
        raise internal
    backend.apply_all(worked_out)
    if token is not None:
        backend.committed[token] = (now, [dict(entry) for entry in entries])
    if internal is not None:
        raise internal
    return {}


def _internal_error(refusals: Sequence[Refusal | None], operation: str) -> Refusal | None:
    """Return an internal error, after which the transaction may be committed.

    Raises the cancellation for other errors.
    """
    internal = [refusal for refusal in refusals if refusal is not None and refusal.code == INTERNAL]
    reasons = [None if refusal in internal else refusal for refusal in refusals]
    if any(reasons):
        raise cancelled(reasons, operation=operation)
    return internal[0] if internal else None
