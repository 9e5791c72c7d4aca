"""The network between processes and the backend: requests and responses take time, and may get lost.

A sent request arrives even if its sender has died, is suspended, or no longer waits for the response.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.ordering.queue import PREFIX
from dynamodb_outbox.event import RESERVED_IDS
from reliability.history import Record, ReplyLost, RequestFailed, StoringRequest
from reliability.items import is_event
from reliability.simulation.backend import Backend
from reliability.simulation.batches import items_of_statements, keys_of_statements
from reliability.simulation.client import Client, Retries
from reliability.simulation.evaluation import UnknownExpressionError
from reliability.simulation.faults import Fate, Faults
from reliability.simulation.loop import Timeline
from reliability.simulation.values import Item

INSERT: Final = "insert"
"""What a history calls a `batch_execute_statement` that inserts items. Others update items."""
PROBE: Final = "probe"
"""What a history calls the statements that find out which statements the backend takes. Its events are `probe`."""
APPEND: Final = "append"
"""What a history calls an `update_item` that appends events to the queue of their key."""
_STORING: Final = frozenset({"put_item", "batch_write_item", "transact_write_items", INSERT, APPEND})
"""The operations that store events."""
_PROBES: Final = f"{RESERVED_IDS}-probe"
_CERTAIN: Final = frozenset({"ConditionalCheckFailed", "DuplicateItem"})
_REFUSALS: Final = frozenset({"", "ConditionalCheckFailedException", "TransactionCanceledException"})
"""The errors of answers after which nothing is repeated."""
_READING: Final = frozenset({"get_item", "batch_get_item"})
"""The operations by which an emit finds out whether an event is stored."""


class Caller(Protocol):
    """A process that makes calls: its name, its place, which its successors share, and its random source."""

    random: Random

    @property
    def name(self) -> str:
        """The name of this life."""
        ...

    @property
    def place(self) -> str:
        """Where it is run."""
        ...

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        ...


@dataclass(slots=True)
class _Call:
    caller: Caller
    operation: str
    name: str
    parameters: dict[str, Any]
    fate: Fate
    answer: asyncio.Future[Any]
    began_at: float
    applied: bool | None = None
    told: bool = False


class Network:
    """Sends calls to the backend, and responses back. It counts the calls and their events by caller."""

    def __init__(
        self,
        timeline: Timeline,
        backend: Backend,
        faults: Faults,
        *,
        write: Callable[[Record], None],
        now: Callable[[], float],
    ) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self._timeline = timeline
        self._engine = backend
        self._faults = faults
        self._write = write
        self._now = now

    def client_of(self, caller: Caller, *, retries: Retries) -> Any:
        """Make the client of a process, with its mode of repeats."""

        async def send(operation: str, parameters: dict[str, Any]) -> Any:
            return await self._send(caller, operation, parameters)

        return Client(send, retries=retries, random=caller.random)

    def _send(self, caller: Caller, operation: str, parameters: dict[str, Any]) -> asyncio.Future[Any]:
        self.calls[caller.name, operation] += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fate = self._faults.fate(operation, caller.place)
        call = _Call(caller, operation, _name_of(operation, parameters), parameters, fate, answer, self._now())
        answer.add_done_callback(lambda _: self._ended(call))
        self._timeline.call_later(fate.request_delay, lambda: self._arrive(call))
        return answer

    def _arrive(self, call: _Call) -> None:
        fate = call.fate
        answer: Any = fate.before
        if answer is None and fate.unprocessed and call.operation == "batch_write_item":
            answer = {"UnprocessedItems": call.parameters["RequestItems"]}
        elif answer is None:
            try:
                answer = self._engine.execute(call.operation, call.parameters, asked_by=call.caller.name)
                call.applied = True
            except ClientError as error:
                answer, call.applied = error, False
            else:
                answer = partly_read(answer, call.parameters) if fate.unprocessed else answer
            answer = fate.after or answer
        else:
            call.applied = False
        if fate.silent or fate.after is not None:
            self._lost(call)
        if not fate.silent:
            self._timeline.call_later(fate.reply_delay, lambda: self._deliver(call, answer))

    def _deliver(self, call: _Call, answer: Any) -> None:
        if call.caller.is_dead or call.answer.done():
            return
        if isinstance(answer, Exception):
            call.answer.set_exception(answer)
        else:
            call.answer.set_result(answer)

    def _ended(self, call: _Call) -> None:
        """Record a response, or that the caller has stopped waiting; the request may still arrive."""
        stored = _events_stored(call.name, call.parameters)
        if stored:
            self._write(
                StoringRequest(
                    at=self._now(),
                    began_at=call.began_at,
                    operation=call.name,
                    event_ids=stored,
                    worker=call.caller.name,
                    error=_error_of(call.answer),
                )
            )
        event_ids = _event_ids(call.operation, call.parameters)
        if event_ids and _error_of(call.answer) not in _REFUSALS:
            facts: dict[str, Any] = {"operation": call.name, "event_ids": event_ids, "worker": call.caller.name}
            self._write(RequestFailed(at=self._now(), **facts))
        if call.answer.cancelled():
            self._lost(call)

    def _lost(self, call: _Call) -> None:
        event_ids = _event_ids(call.operation, call.parameters)
        if event_ids and not call.told:
            call.told = True
            self._write(
                ReplyLost(
                    at=self._now(),
                    operation=call.name,
                    event_ids=event_ids,
                    worker=call.caller.name,
                    applied=call.applied,
                )
            )


def partly_read(answer: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a BatchGetItem that has read the first half of the keys, at least one."""
    ((table, wanted),) = parameters["RequestItems"].items()
    keys = wanted["Keys"]
    left = keys[(len(keys) + 1) // 2 :]
    ids = {key["id"]["S"] for key in left}
    found = [item for item in answer["Responses"][table] if item["id"]["S"] not in ids]
    return {"Responses": {table: found}, "UnprocessedKeys": {table: {**wanted, "Keys": left}} if left else {}}


def _name_of(operation: str, parameters: dict[str, Any]) -> str:
    if operation == "update_item" and events_appended(parameters):
        return APPEND
    try:
        if operation == "batch_execute_statement":
            if any(key.startswith(_PROBES) for key in keys_of_statements(parameters)):
                return PROBE
            return INSERT if items_of_statements(parameters) else operation
    except UnknownExpressionError:
        pass  # the backend raises it, and the run ends
    return operation


def _events_stored(name: str, parameters: dict[str, Any]) -> tuple[str, ...]:
    """List the events that a request stores, or of which it finds out whether they are stored."""
    if name in _READING:
        ((_, wanted),) = parameters["RequestItems"].items() if name == "batch_get_item" else [("", {})]
        keys = wanted["Keys"] if wanted else [parameters["Key"]]
        return tuple(key["id"]["S"] for key in keys)
    if name == PROBE:
        return (PROBE,)
    if name not in _STORING:
        return ()
    stored = [item["id"]["S"] for item in _items_stored(name, parameters) if is_event(item)]
    entries = [parameters] if name == APPEND else []
    if name == "transact_write_items":
        entries = [entry["Update"] for entry in parameters["TransactItems"] if "Update" in entry]
    return tuple(dict.fromkeys([*stored, *(each for entry in entries for each in events_appended(entry))]))


def _items_stored(name: str, parameters: dict[str, Any]) -> list[Item]:
    match name:
        case "put_item":
            return [parameters["Item"]]
        case "batch_write_item":
            puts = [request for requests in parameters["RequestItems"].values() for request in requests]
            return [request["PutRequest"]["Item"] for request in puts]
        case "transact_write_items":
            return [entry["Put"]["Item"] for entry in parameters["TransactItems"] if "Put" in entry]
        case "insert":
            return items_of_statements(parameters)
        case _:
            return []


def events_appended(update: Mapping[str, Any]) -> tuple[str, ...]:
    """List the events that an update appends to the queue of their key."""
    new = update.get("ExpressionAttributeValues", {}).get(":new")
    if new is None or not update["Key"]["id"]["S"].startswith(PREFIX):
        return ()
    return tuple(member["S"] for member in new["L"])


def _error_of(answer: asyncio.Future[Any]) -> str:
    error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code"))
    return _error_in(answer.result()) if error is None else type(error).__name__


def _error_in(reply: Mapping[str, Any]) -> str:
    """Return the code of a statement whose answer leaves open whether it was applied."""
    responses = reply.get("Responses", [])
    codes = [each["Error"]["Code"] for each in responses if isinstance(each, Mapping) and "Error" in each]
    return next((code for code in codes if code not in _CERTAIN), "")


def _event_ids(operation: str, parameters: dict[str, Any]) -> tuple[str, ...]:
    """List the events that a request would change; the list is empty if the request only reads."""
    match operation:
        case "put_item":
            return (parameters["Item"]["id"]["S"],)
        case "update_item" | "delete_item":
            return (parameters["Key"]["id"]["S"],)
        case "batch_execute_statement":
            return tuple(keys_of_statements(parameters))
        case "batch_write_item":
            return tuple(
                request["PutRequest"]["Item"]["id"]["S"]
                for requests in parameters["RequestItems"].values()
                for request in requests
            )
        case "transact_write_items":
            entries = [next(iter(entry.values())) for entry in parameters["TransactItems"]]
            return tuple((entry.get("Item") or entry["Key"])["id"]["S"] for entry in entries)
        case _:
            return ()
