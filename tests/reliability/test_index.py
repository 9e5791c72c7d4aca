"""The index lags behind the table, shows rows that are gone, and holds more than one look can read."""

from __future__ import annotations

from random import Random
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.observers import ClaimRefused
from reliability.proxy import Proxy, Reply
from reliability.rules import LaggingIndex
from tests.conftest import MakeOutbox
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, eventually, every, kind_of


@pytest.mark.parametrize(("mode", "seed"), [("batch", 1), ("single", 2)])
async def test_rows_that_are_missing_or_stale_cost_refused_claims_and_nothing_else(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, mode: str, seed: int
) -> None:
    told: list[Any] = []
    runs, errors = Runs(), list[Any]()
    buses = []
    for _ in range(2):
        outbox = make_outbox(
            conditional_writes=mode, observers=[told.append], on_error=errors.append, poll_interval=0.02
        )
        buses.append(OutboxEventBus(outbox))
        buses[-1].on("order.placed", runs)
    events = [Event("order.placed", id=f"e{n:02}") for n in range(30)]
    await make_outbox().publish(events)
    proxy.rule = lag = LaggingIndex(Random(seed))
    async with buses[0], buses[1]:
        await eventually(lambda: len(runs.counts) == len(events))
        # What is done stays in the index for a while, as it was.
        looks = proxy.count("Query")
        await eventually(lambda: proxy.count("Query") > looks + 8)
        proxy.rule = lambda request: None
        await buses[0].drain(20)
    assert runs.counts == {event.id: 1 for event in events}
    assert {item["status"]["S"] for item in (await items()).values()} == {"COMPLETED"}
    assert errors == []
    assert lag.missing > 5
    assert lag.stale > 30
    # A worker tries a stale row once, for each state that it was shown in.
    refused = [fact.event_id for fact in told if isinstance(fact, ClaimRefused)]
    assert len(refused) <= 2 * len(events)


async def test_stale_lease_resets_no_event_that_was_settled_or_renewed(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items
) -> None:
    now = 1_790_000_000.0
    outbox = make_outbox(clock=lambda: now, processing_timeout=30)
    await outbox.publish([Event("order.placed", id="renewed"), Event("order.placed", id="claimed again")])
    first = {claim.event.id: claim for claim in await outbox.claim(2)}
    rows = [
        {"id": {"S": event_id}, "gsiSortKey": {"N": str(round(claim.lease_expires_at * 1000))}}
        for event_id, claim in first.items()
    ]
    now += 31
    assert await outbox.renew([(first["renewed"], now + 30)]) == [None]
    assert (await outbox.recover()).reset == ("claimed again",)
    (again,) = await outbox.claim(1)
    # The index still shows both leases as they were at first.
    proxy.rule = every("Query", Reply(200, {"Items": rows, "Count": 2}))
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.failed) == ((), ())
    stored = await items()
    assert stored["renewed"]["claimToken"] == {"S": first["renewed"].token}
    assert stored["claimed again"]["claimToken"] == {"S": again.token}
    assert {item["status"]["S"] for item in stored.values()} == {"PROCESSING"}


async def test_oldest_of_a_backlog_of_many_pages_come_first_while_more_is_emitted(
    make_outbox: MakeOutbox, local_client: Any, proxy: Proxy
) -> None:
    now = 1_790_000_000.0
    outbox = make_outbox(clock=lambda: now, batch_size=10)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    # An index page ends after 1 MB of whole rows, however few attributes are asked for: here, after eight.
    old = [Event("order.placed", {"text": "x" * 120_000}, id=f"old{n:02}") for n in range(25)]
    for event in old:
        now += 0.001
        await outbox.publish([event])
    while len(runs.ids) < len(old):
        now += 0.001
        await outbox.publish([Event("order.placed") for _ in range(5)])
        assert await bus.run_once() == 10
    assert runs.ids[:25] == [event.id for event in old]
    pages = [request for request in proxy.requests if "ExclusiveStartKey" in request.body]
    assert pages, "the backlog did not fill a page"


async def test_backlog_beyond_its_page_is_not_starved_by_many_refused_rows(
    make_outbox: MakeOutbox, proxy: Proxy
) -> None:
    outbox = make_outbox(batch_size=5)
    await outbox.publish([Event("order.placed", id=f"e{n:02}") for n in range(40)])
    crowd = {claim.event.id for claim in await make_outbox().claim(30)}
    assert len(crowd) == 30
    shown: list[dict[str, Any]] = [{"id": {"S": event_id}, "gsiSortKey": {"N": "1000"}} for event_id in sorted(crowd)]

    def crowded(reply: dict[str, Any]) -> dict[str, Any]:
        return {"Items": [*shown, *reply["Items"]], "Count": len(shown) + len(reply["Items"])}

    proxy.rule = lambda request: crowded if kind_of(request) == "Query" else None
    found: set[str] = set()
    with anyio.fail_after(20):
        while len(found) < 10:
            found |= {claim.event.id for claim in await outbox.claim(5)}
    assert not found & crowd
    claims = sum(len(request.body["Statements"]) for request in proxy.requests if kind_of(request) == "claim")
    # Thirty for the crowd's own claims, once each for the rows that it left, and ten that succeed.
    assert claims <= 30 + 30 + 10
