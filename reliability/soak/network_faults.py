"""Injects network faults with a proxy, in spells of a few seconds, each with one kind of fault."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from random import Random
from typing import Any, Final

from reliability.history import FaultBegan, FaultEnded, ReplyLost
from reliability.journal import Write
from reliability.proxy import CUT_AFTER, CUT_BEFORE, RESET_AFTER, Proxy, Recorded, Reply, refused
from reliability.rules import LaggingIndex, partly_refused
from reliability.simulation.network import events_appended
from reliability.simulation.updates import Insert, parse_statement


class Kind(StrEnum):
    """The kinds of network faults."""

    LOST_REPLIES = "lost replies"
    CUTS = "cuts"
    ERRORS = "500s"
    THROTTLES = "throttles"
    UNPROCESSED = "unprocessed items"
    STATEMENTS = "refused statements"
    INDEX_LAG = "index lag"
    DELAYS = "delays"
    OUTAGE = "outage"


INSERT: Final = "Insert"
"""What a history calls a BatchExecuteStatement that inserts items. Others update items."""
APPEND: Final = "Append"
"""What a history calls an UpdateItem that appends events to the queue of their key."""
_READS: Final = frozenset({"Query", "DescribeTable", "GetItem", "BatchGetItem"})
SPELL: Final = (0.5, 3.0)
PAUSE: Final = (1.0, 4.0)
LONGEST_DELAY: Final = 1.5
REFUSED_STATEMENTS: Final = 0.5
_CHANCES: Final = {
    Kind.OUTAGE: 1.0,
    Kind.UNPROCESSED: 0.7,
    Kind.STATEMENTS: 0.7,
    Kind.INDEX_LAG: 0.7,
    Kind.DELAYS: 0.3,
}
_ONLY: Final = {
    Kind.UNPROCESSED: "BatchWriteItem",
    Kind.STATEMENTS: "BatchExecuteStatement",
    Kind.INDEX_LAG: "Query",
}
"""The faults that only requests of one operation can have."""


class NetworkFaults:
    """Lets a proxy inject faults, and records them. `client` bypasses the proxy."""

    def __init__(self, proxy: Proxy, client: Any, write: Write, *, now: Callable[[], float], chance: Random) -> None:
        self._proxy = proxy
        self._client = client
        self._write = write
        self._now = now
        self._chance = chance
        self._number = 0
        self._lagging = LaggingIndex(chance)
        self.kind: Kind | None = None
        self.done: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        proxy.rule = self.treat

    async def harm(self) -> None:
        """Start and end spells of faults, until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._chance.uniform(*PAUSE))
                self.begin(self._chance.choice(list(Kind)))
                await asyncio.sleep(self._chance.uniform(*SPELL))
                self.end()
        finally:
            self.end()

    def begin(self, kind: Kind) -> None:
        """Start a spell of one kind of fault."""
        self._number += 1
        self._lagging = LaggingIndex(self._chance)
        self.kind = kind
        self._write(FaultBegan(at=self._now(), name=f"network {self._number}", kind=kind))

    def end(self) -> None:
        """End the spell."""
        if self.kind is not None:
            self._write(FaultEnded(at=self._now(), name=f"network {self._number}", kind=self.kind))
        self.kind = None

    def treat(self, request: Recorded) -> Any:
        """Decide what the proxy does to a request; None lets it pass."""
        self._proxy.requests.clear()  # of a soak they would be many
        self.requests[request.operation] += 1
        kind = self.kind
        if kind is None or self._chance.random() >= _CHANCES.get(kind, 0.2):
            return None
        return self._harmed(kind, request)

    def _harmed(self, kind: Kind, request: Recorded) -> Any:
        if request.operation != _ONLY.get(kind, request.operation):
            return None
        match kind:
            case Kind.LOST_REPLIES:
                self._lost(request, applied=True)
                action: Any = self._chance.choice([CUT_AFTER, RESET_AFTER])
            case Kind.CUTS | Kind.OUTAGE:
                self._lost(request, applied=False)
                action = CUT_BEFORE
            case Kind.ERRORS:
                self._lost(request, applied=False)
                action = refused("InternalServerError", "soaked", 500)
            case Kind.THROTTLES:
                code = self._chance.choice(["ThrottlingException", "ProvisionedThroughputExceededException"])
                action = refused(code, "soaked")
            case Kind.UNPROCESSED:
                action = Reply(200, {"UnprocessedItems": request.body["RequestItems"]})
            case Kind.STATEMENTS:
                action = self._partly(request)
            case Kind.INDEX_LAG:
                action = self._lagging(request)
            case Kind.DELAYS:
                # The caller may have given up before the response comes.
                self._lost(request, applied=None)
                action = self._later()
        self.done[kind] += action is not None
        return action

    def _partly(self, request: Recorded) -> Awaitable[Reply]:
        count = len(request.body["Statements"])
        chosen = self._chance.randrange(count)
        places = {n for n in range(count) if n == chosen or self._chance.random() < REFUSED_STATEMENTS}
        code = self._chance.choice(["ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"])
        return partly_refused(self._client, request, code, places)

    def _later(self) -> Awaitable[None]:
        return asyncio.sleep(self._chance.uniform(0.2, LONGEST_DELAY))

    def _lost(self, request: Recorded, *, applied: bool | None) -> None:
        ids = tuple(dict.fromkeys(event_ids_in(request)))
        if ids or request.operation not in _READS:
            self._write(ReplyLost(at=self._now(), operation=operation_of(request), event_ids=ids, applied=applied))


def operation_of(request: Recorded) -> str:
    """Return what a history calls the operation of a request."""
    if request.operation == "UpdateItem" and events_appended(request.body):
        return APPEND
    return INSERT if _inserts(request) else request.operation


def event_ids_in(request: Recorded) -> list[str]:
    """Find the events that a request writes."""
    body = request.body
    match request.operation:
        case "PutItem":
            return [body["Item"]["id"]["S"]]
        case "UpdateItem" | "DeleteItem":
            return [body["Key"]["id"]["S"]]
        case "BatchWriteItem":
            return [each["PutRequest"]["Item"]["id"]["S"] for puts in body["RequestItems"].values() for each in puts]
        case "BatchExecuteStatement":
            return [_id_of(statement) for statement in body["Statements"]]
        case "TransactWriteItems":
            return [_id_in(entry) for item in body["TransactItems"] for entry in item.values()]
        case _:
            return []


def _id_of(statement: dict[str, Any]) -> str:
    values = {f":{index}": value for index, value in enumerate(statement["Parameters"])}
    return str(parse_statement(statement["Statement"]).key_in(values)["S"])


def _inserts(request: Recorded) -> bool:
    """Tell whether a request inserts items by statements."""
    statements = request.body.get("Statements", [])
    return any(isinstance(parse_statement(each["Statement"]), Insert) for each in statements)


def _id_in(entry: dict[str, Any]) -> str:
    return str((entry.get("Item") or entry["Key"])["id"]["S"])
