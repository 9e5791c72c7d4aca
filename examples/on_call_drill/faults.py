"""The ten faults of the drill. Do not read on if you want to practise."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from dynamodb_outbox import EventState
from examples.on_call_drill.deployment import CURRENT, FORMER, WORKS, Release
from examples.on_call_drill.scene import FOREIGN, INVOICES, ORDERS, Fault, Scene, orders_are_undelivered
from examples.on_call_drill.shop import MINUTE, until

FOREIGN_ROWS: Final = [f"stock-{number}" for number in range(7701, 7707)]
SOME: Final = 5
SLOW_SECONDS: Final = 11.0
"""A handler that runs for longer is slow to the doctor."""
ROUNDS: Final = 15
"""An answer that takes 24 s keeps four slots busy for 90 s with 15 events; a drill has more."""


async def _no_service(scene: Scene) -> None:
    await scene.shop.emit(ORDERS, minutes_ago=12)


async def _frozen(scene: Scene) -> None:
    # The process takes some orders, and hangs: its clock makes that happen some minutes ago.
    await scene.shop.emit(ORDERS, minutes_ago=12)
    scene.deployment.start(clock_behind=11 * MINUTE, handlers=dict.fromkeys(WORKS, "waits"))

    async def has_claimed() -> bool:
        return any(event and event.claimed_by for event in await scene.shop.events(ORDERS))

    await until(has_claimed)
    scene.deployment.freeze()


async def _on_hold(scene: Scene) -> None:
    scene.shop.clock.behind = 6 * 60 * MINUTE
    reason = "INC-311: some parcels were sent twice. I resume it when the warehouse is done"
    await scene.shop.outbox.hold(ORDERS, reason=reason, by="mara@laptop-17")
    await scene.shop.emit(ORDERS, minutes_ago=50)
    scene.deployment.start()
    await scene.until_in(EventState.HELD, ORDERS)


async def _no_handler(scene: Scene) -> None:
    await scene.shop.emit(INVOICES, minutes_ago=12)
    scene.deployment.start()

    async def is_given_back() -> bool:
        return all(event and event.unhandled_since for event in await scene.shop.events(INVOICES))

    await until(is_given_back)


async def _dead_letters(scene: Scene) -> None:
    await scene.shop.emit(ORDERS, minutes_ago=9 * 60)
    await scene.shop.fail(ORDERS, minutes_ago=9 * 60, error=KeyError("currency"))
    scene.deployment.start()


async def _foreign_rows(scene: Scene) -> None:
    await scene.shop.put_foreign_rows(FOREIGN_ROWS)
    scene.deployment.start()
    await scene.until_in(EventState.FAILED, FOREIGN)


async def _foreign_rows_are_left(scene: Scene) -> str:
    gone = await scene.shop.count(FOREIGN, EventState.DISCARDED)
    gone += (await scene.shop.events(FOREIGN)).count(None)
    left = len(FOREIGN_ROWS) - gone
    return f"{left} dead letters are left" if left else await scene.left_on_hold()


async def _too_few_shards(scene: Scene) -> None:
    await scene.shop.emit(ORDERS, minutes_ago=12)
    scene.deployment.start()
    # Half of the ids are in the shards that the service reads, give or take some.
    await scene.until_delivered(ORDERS, at_least=scene.shop.size // 3)


async def _bad_release(scene: Scene) -> None:
    await scene.shop.emit(ORDERS, minutes_ago=4)
    scene.deployment.start()

    async def has_failed() -> bool:
        failed = [event for event in await scene.shop.events(ORDERS) if event and event.retry_count]
        return len(failed) >= min(SOME, scene.shop.size)

    await until(has_failed)


async def _slow_server(scene: Scene) -> None:
    await scene.shop.emit(INVOICES, minutes_ago=15, count=scene.shop.size + ROUNDS)
    await scene.shop.emit(ORDERS, minutes_ago=12)
    scene.deployment.start()

    async def is_slow() -> bool:
        running = (await scene.shop.outbox.list_events(EventState.PROCESSING)).events
        limit = datetime.now(UTC) - timedelta(seconds=SLOW_SECONDS)
        return sum(event.started_at is not None and event.started_at < limit for event in running) > 1

    await until(is_slow)


async def _orders_wait_for_invoices(scene: Scene) -> str:
    if undelivered := await scene.undelivered(ORDERS):
        return undelivered
    is_held = any(hold.type == INVOICES for hold in await scene.shop.outbox.holds())
    if is_held or not await scene.undelivered(INVOICES):
        return ""
    return "the orders of now are delivered, and the next ones will wait as long"


async def _no_time_to_live(scene: Scene) -> None:
    await scene.shop.emit(ORDERS, minutes_ago=3)
    scene.deployment.start()
    await scene.until_delivered(ORDERS)


async def _grows(scene: Scene) -> str:
    return "" if await scene.shop.has_time_to_live() else "delivered events stay in the table"


_BEFORE_INVOICES: Final = {event_type: manner for event_type, manner in WORKS.items() if event_type != INVOICES}
_WITH_INVOICES: Final = Release(
    name="2.5", since="built today, not deployed", changes="sends the new invoices", handlers=WORKS
)
_DEFECT: Final = replace(
    CURRENT,
    since="deployed 4 minutes ago",
    changes="shows prices in the currency of the order",
    handlers=WORKS | {ORDERS: "fails"},
)

FAULTS: Final = (
    Fault(
        alert="OutboxStuck fires: events have been due for more than five minutes.",
        cause="no process of the service runs",
        repair=("service start",),
        checks=("workers",),
        prepare=_no_service,
        unrepaired=orders_are_undelivered,
    ),
    Fault(
        alert="OutboxLeasesNotRecovered fires. The platform says that all processes run.",
        cause="the process of the service hangs: it took events, their leases ran out, and nobody recovers them",
        repair=("service restart",),
        checks=("workers",),
        prepare=_frozen,
        unrepaired=orders_are_undelivered,
    ),
    Fault(
        alert="The warehouse calls: no order has come in since this morning, although customers pay. You know of no "
        "open incident: INC-311, the last one, was closed two hours ago, and its owner has gone home.",
        cause="a colleague has put order.placed on hold for INC-311, and did not resume it",
        repair=("dynamodb-outbox resume --type order.placed",),
        checks=("holds",),
        prepare=_on_hold,
        unrepaired=orders_are_undelivered,
    ),
    Fault(
        alert="Accounting calls: since the shop was updated today, customers get their parcels, but no invoices.",
        cause="no deployed release has a handler for invoice.requested; 2.5 has one",
        repair=("service deploy 2.5",),
        checks=("handlers",),
        prepare=_no_handler,
        unrepaired=lambda scene: scene.undelivered(INVOICES),
        releases=(
            replace(FORMER, handlers=_BEFORE_INVOICES),
            replace(CURRENT, handlers=_BEFORE_INVOICES),
            _WITH_INVOICES,
        ),
    ),
    Fault(
        alert="OutboxDeadLettersRising fired last night. The team of the service writes: the defect is fixed, and the "
        "fix was deployed two hours ago. Customers still wait for their parcels.",
        cause="orders are dead letters after KeyError in ship_order, which is fixed by now; nobody has retried them",
        repair=("dynamodb-outbox failed retry --type order.placed --yes",),
        checks=("dead letters",),
        prepare=_dead_letters,
        unrepaired=orders_are_undelivered,
        releases=(FORMER, replace(CURRENT, since="deployed 2 hours ago", changes="orders without a currency")),
    ),
    Fault(
        alert="OutboxDeadLetters fires: there are dead letters. No customer misses anything.",
        cause="another program has stored rows that are no events",
        repair=(f"dynamodb-outbox failed discard {' '.join(FOREIGN_ROWS)} --reason 'not an event' --yes",),
        checks=("unreadable items",),
        prepare=_foreign_rows,
        unrepaired=_foreign_rows_are_left,
    ),
    Fault(
        alert="Customers call: about half of the orders of the last minutes are not confirmed. No alert fires.",
        cause="the service was deployed with shards=2, and the shop emits with shards=4",
        repair=("service deploy 2.4 --shards 4",),
        checks=("schema", "shards"),
        prepare=_too_few_shards,
        unrepaired=orders_are_undelivered,
        shards=4,
        releases=(
            replace(FORMER, shards=4),
            replace(CURRENT, since="deployed 13 minutes ago", changes="options in one file", shards=2),
        ),
    ),
    Fault(
        alert="OutboxHandlerFailures fires for order.placed.",
        cause="release 2.4 has a defect: ship_order fails with KeyError",
        repair=("service rollback",),
        checks=("retries",),
        prepare=_bad_release,
        unrepaired=orders_are_undelivered,
        releases=(FORMER, _DEFECT),
    ),
    Fault(
        alert="OutboxSaturated and OutboxStuck fire. Customers wait for the confirmation of their orders.",
        cause="send_invoice waits 24 s for a mail server, so invoices occupy all slots, and orders wait behind them",
        repair=("dynamodb-outbox hold --type invoice.requested --reason 'the mail server hangs' --for 30m --yes",),
        checks=("slow handlers",),
        prepare=_slow_server,
        unrepaired=_orders_wait_for_invoices,
        releases=(FORMER, replace(CURRENT, handlers=WORKS | {INVOICES: "waits"})),
    ),
    Fault(
        alert="The report of costs: the table has grown by 2 GB this month. Delivered events should go after a day.",
        cause="time to live is off, so DynamoDB deletes no delivered event",
        repair=("dynamodb-outbox table ttl --enable --yes",),
        checks=("time to live",),
        prepare=_no_time_to_live,
        unrepaired=_grows,
        has_time_to_live=False,
    ),
)


def draw(number: int | None = None, *, seed: int | None = None, turn: int = 1) -> Fault:
    """Return the fault with a number, from 1; without one, that of a turn in an order that the seed shuffles."""
    if number is not None:
        return FAULTS[number - 1]
    shuffled = list(FAULTS)
    (random.SystemRandom() if seed is None else random.Random(seed)).shuffle(shuffled)
    return shuffled[(turn - 1) % len(shuffled)]
