"""Every action: by clicks, by the keyboard alone, without JavaScript, and on a narrow screen in the dark.

Every day by clicks; with THOROUGH=1, as the checks before a release do, in each manner.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from tests.thorough import often
from tests.web.browser.conftest import Clock, Visitor
from tests.web.browser.person import MANNERS, Person
from tests.web.conftest import fail_events, failing

pytestmark = pytest.mark.asyncio(loop_scope="session")
Open = Callable[[str], Awaitable[Person]]


TRIED = list(MANNERS)[: often(1, thorough=len(MANNERS))]


@pytest.fixture(params=TRIED)
def person_at(visitor: Visitor, request: pytest.FixtureRequest) -> Open:
    async def open_page(path: str) -> Person:
        manner = MANNERS[request.param]
        return Person(await visitor.page(path, **manner.options), manner)

    return open_page


async def fail(bus: OutboxEventBus, count: int) -> None:
    await fail_events(bus, *(failing(id=f"f{number:02}") for number in range(count)))


async def test_retry(bus: OutboxEventBus, outbox: InMemoryOutbox, person_at: Open) -> None:
    await fail(bus, 1)
    person = await person_at("/")
    await person.follow("Dead letters", inside="main")
    await person.follow("f00")
    await person.press("Retry …")
    await person.press("Retry")
    await person.sees("due again")
    assert outbox.status_of("f00") is EventStatus.PENDING


async def test_discard(bus: OutboxEventBus, outbox: InMemoryOutbox, person_at: Open) -> None:
    await fail(bus, 1)
    person = await person_at("/event?id=f00")
    await person.press("Discard …")
    await person.write("Reason", "a duplicate")
    await person.press("Discard")
    await person.sees("a duplicate")
    assert outbox.status_of("f00") is EventStatus.DISCARDED


@pytest.mark.parametrize(("action", "status"), [("Retry", EventStatus.PENDING), ("Discard", EventStatus.DISCARDED)])
async def test_selected_events(
    bus: OutboxEventBus, outbox: InMemoryOutbox, person_at: Open, action: str, status: EventStatus
) -> None:
    await fail(bus, 3)
    person = await person_at("/dead-letters")
    await person.follow("One by one")
    await person.check("Select f00")
    await person.check("Select f02")
    await person.press(f"{action} selected …")
    if action == "Discard":
        await person.write("Reason", "duplicates")
    await person.press(action)
    await person.sees("2 ")
    assert [outbox.status_of(f"f{number:02}") for number in range(3)] == [status, EventStatus.FAILED, status]


@pytest.mark.parametrize(
    ("action", "inside"), [("Retry", ".group"), ("Discard", "section[aria-labelledby=all]")], ids=["a group", "all"]
)
async def test_many_events(
    bus: OutboxEventBus, outbox: InMemoryOutbox, person_at: Open, action: str, inside: str
) -> None:
    word = {"Retry": "retried", "Discard": "discarded"}[action]
    await fail(bus, 26)
    person = await person_at("/dead-letters")
    await person.press(f"{action} …", inside=inside)
    await person.choose("Events in a step", "25")
    if action == "Discard":
        await person.write("Reason", "the customer is gone")
    await person.press(action)
    if not person.has_script:
        await person.sees(f"25 {word}, more to come")
        await person.press("Next step")
    await person.sees(f"26 {word}: finished")
    assert await outbox.count("FAILED") == 0


async def test_replace(bus: OutboxEventBus, outbox: InMemoryOutbox, person_at: Open) -> None:
    await fail(bus, 1)
    person = await person_at("/event?id=f00")
    await person.press("Edit and replace …")
    await person.write("Payload, as JSON", '{"n": 1}')
    await person.write("Reason", "a typo")
    await person.press("Show the changes")
    assert outbox.status_of("f00") is EventStatus.FAILED
    await person.press("Store the new event")
    await person.sees("Replaces")
    old = await outbox.get("f00")
    assert old is not None
    assert old.replaced_by is not None
    new = await outbox.get(old.replaced_by)
    assert new is not None
    assert new.payload == {"n": 1}


async def test_hold_and_resume_everything(outbox: InMemoryOutbox, person_at: Open) -> None:
    person = await person_at("/")
    await person.press("Hold all workers …")
    await person.write("Reason", "a restore")
    await person.choose("For", "1 hour")
    await person.press("Hold")
    await person.sees("Held by ada")
    (hold,) = await outbox.holds()
    assert (hold.type, hold.reason) == (None, "a restore")
    assert hold.until is not None
    assert 3000 < (hold.until - datetime.now(UTC)).total_seconds() <= 3600
    await person.follow("Overview")
    await person.press("Resume all workers")
    assert await outbox.holds() == []


@pytest.mark.parametrize("name", ["order.placed", "not.known.here"])
async def test_hold_and_resume_a_type(outbox: InMemoryOutbox, person_at: Open, name: str) -> None:
    person = await person_at("/types")
    if name == "order.placed":
        await person.press("Hold …", inside=f"tr:has-text('{name}')")
    else:
        await person.write("Type", name)
        await person.press("Hold …", inside="section[aria-labelledby=other]")
    await person.write("Reason", "the bank is down")
    await person.press("Hold")
    assert [hold.type for hold in await outbox.holds()] == [name]
    await person.press("Resume", inside=f"tr:has-text('{name}')")
    assert await outbox.holds() == []


async def test_recover(outbox: InMemoryOutbox, clock: Clock, person_at: Open) -> None:
    await outbox.publish([Event("user.created", {}, id="e1")])
    await outbox.claim(1)
    clock.ahead = 31
    person = await person_at("/events?state=due")
    await person.follow("expired")
    await person.press("Recover expired leases now")
    await person.sees("e1 is due again")
    assert outbox.status_of("e1") is EventStatus.PENDING


async def test_export(bus: OutboxEventBus, person_at: Open) -> None:
    await fail(bus, 2)
    person = await person_at("/dead-letters")
    lines = (await person.download("Export")).splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == ["f00", "f01"]


async def test_find_events(bus: OutboxEventBus, person_at: Open) -> None:
    await fail(bus, 51)
    await fail_events(bus, failing("order.placed", id="o1", ordering_key="order-17"))
    person = await person_at("/events?state=failed")
    await person.follow("Next page")
    await person.follow("First page")
    await person.write("Type", "order.placed")
    await person.press("Filter")
    await person.sees("1 has this type.")
    await person.sees("o1")
    await person.write("Id", "f07")
    await person.press("Show event")
    await person.sees("the mail server is down")
    await person.follow("Events", inside="header")
    await person.write("Ordering key", "order-17")
    await person.press("Show what it waits for")
    await person.sees("Event o1")


async def test_pages(bus: OutboxEventBus, person_at: Open) -> None:
    await fail(bus, 1)
    person = await person_at("/event?id=f00")
    for name in ("Overview", "Dead letters", "Events", "Types and holds", "Worker", "Health"):
        await person.follow(name, inside="header")
        assert await person.page.locator("[aria-current=page]").first.inner_text() == name
        assert await person.page.get_by_role("heading", level=1).count() == 1, name
