"""An outbox whose window is open, for tests that store events in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.dynamodb.windows.activity import OPEN_AT
from dynamodb_outbox.dynamodb.windows.window import Window
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.outcome import Completed, Outcome
from dynamodb_outbox.transaction import TransactionWrite
from reliability.proxy import Proxy


@dataclass
class Desk:
    """Emits events that are claimed on emit, and has the claims, as a worker has them."""

    client: Any
    outbox: DynamoDBOutbox
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    errors: list[OutboxError] = field(default_factory=list[OutboxError])
    keeping: asyncio.Task[None] | None = None

    def claim_for(self, events: Sequence[Event]) -> EmitClaim:
        """Reserve a claim for each event."""

        def claimed(claim: Claim) -> None:
            self.claims[claim.event.id] = claim

        return EmitClaim(tokens={event.id: token_hex(16) for event in events}, claimed=claimed)

    async def emit(self, *events: Event) -> None:
        """Store events as one publish, claimed on emit."""
        await self.outbox.publish(events, emit_claim=self.claim_for(events))

    async def transact(self, *events: Event, writes: Sequence[TransactionWrite] = (), **options: Any) -> None:
        """Store events with writes, claimed on emit."""
        await self.outbox.transact(
            writes, [(event, None) for event in events], emit_claim=self.claim_for(events), **options
        )

    async def settle(self, *events: Event, outcome: Outcome | None = None) -> list[OutboxError | None]:
        """Settle the claims of events."""
        return await self.outbox.settle([(self.claims[event.id], outcome or Completed()) for event in events])

    async def retire(self) -> None:
        """Stop as a worker does: it keeps leases no longer, and retires."""
        if self.keeping is not None:
            self.keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self.keeping
        await self.outbox.retire()

    async def item(self, event: Event | str) -> dict[str, Any]:
        """Read an item as it is stored; empty if there is none."""
        event_id = event if isinstance(event, str) else event.id
        key = {"id": {"S": event_id}}
        reply = await self.client.get_item(TableName=self.outbox.table_name, Key=key, ConsistentRead=True)
        item: dict[str, Any] = reply.get("Item", {})
        return item

    async def put(self, item: Mapping[str, Any]) -> None:
        """Store an item of another writer."""
        await self.client.put_item(TableName=self.outbox.table_name, Item=item)

    @property
    def window(self) -> Window:
        """The open window."""
        window = self.current
        assert window is not None
        return window

    @property
    def current(self) -> Window | None:
        """The open window, if there is one."""
        return self.outbox._parts.keeper._upkeep.current

    @property
    def windows(self) -> list[Window]:
        """The open window, and former windows that are not done."""
        return self.outbox._parts.keeper._unanswered.windows

    async def open_window(self) -> None:
        """Emit enough events to have a window, and settle them."""
        first = [Event("order.placed") for _ in range(OPEN_AT)]
        await self.emit(*first)
        await until(lambda: self.current is not None)
        assert await self.settle(*first) == [None] * OPEN_AT


@asynccontextmanager
async def keeping_leases(outbox: DynamoDBOutbox, client: Any, *, opened: bool = True) -> AsyncIterator[Desk]:
    """Keep the leases of an outbox, as its worker does, once its window is open."""
    desk = Desk(client, outbox)
    keeping = desk.keeping = asyncio.create_task(outbox.keep_leases(report=desk.errors.append))
    await asyncio.sleep(0.01)
    try:
        if opened:
            await desk.open_window()
        yield desk
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        event_ids.forget()


async def until(condition: Any) -> None:
    """Wait until a condition, sync or async, is true."""
    async with asyncio.timeout(30):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.02)


def order() -> Event:
    """Make an event, with an id of this process."""
    return Event("order.placed", {"n": 1})


async def emit_alone(desk: Desk, *events: Event) -> None:
    for event in events:
        await desk.emit(event)


async def emit_together(desk: Desk, *events: Event) -> None:
    await desk.emit(*events)


async def emit_at_once(desk: Desk, *events: Event) -> None:
    await asyncio.gather(*(desk.emit(event) for event in events))


async def emit_in_transaction(desk: Desk, *events: Event) -> None:
    await desk.transact(*events)


WAYS: dict[str, Callable[..., Any]] = {
    "alone": emit_alone,
    "together": emit_together,
    "at once": emit_at_once,
    "in a transaction": emit_in_transaction,
}


def written(proxy: Proxy) -> Counter[str]:
    """Count the requests that write events."""
    return Counter(each for each in proxy.operations() if each not in {"GetItem", "UpdateItem", "DescribeTable"})
