"""Items that have no room left: whatever was stored ends, keeps what is known about it, and holds nobody up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    OutboxError,
    OutboxEventBus,
    RecoveryError,
    StorageError,
    StoredEventError,
)
from dynamodb_outbox.adapter import Failed, HandlerDone, Held
from dynamodb_outbox.dynamodb.items.codec import DELIVERY_BYTES, MAX_ITEM_BYTES, encode_event
from dynamodb_outbox.dynamodb.items.sizes import size_of
from dynamodb_outbox.worker_identity import worker_identity
from reliability.proxy import Proxy, Recorded, refused
from tests.adapter_timing import with_timing
from tests.conftest import MakeOutbox
from tests.full_items import put_full
from tests.reliability.conftest import Items

NOW = 1_790_000_000.123
PAST = str(int(NOW * 1000) - 60_000)


def largest_event(event_id: str = "large") -> Event:
    empty = encode_event(Event("t", {"x": ""}, id=event_id), due_at=NOW, numbers="native")[1]
    return Event("t", {"x": "y" * (MAX_ITEM_BYTES - DELIVERY_BYTES - empty)}, id=event_id)


def long_names(count: int, length: int = 200) -> list[str]:
    return [f"{number:03}".ljust(length, "n") for number in range(count)]


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def make(make_outbox: MakeOutbox, time: Time) -> Callable[..., Any]:
    return lambda **options: make_outbox(clock=time, **options)


async def run_until_nothing_is_left(bus: OutboxEventBus, outbox: Any, time: Time) -> None:
    for _ in range(20):
        # As a worker that starts. What it left to others is measured by the event loop's time, and not by this one.
        await outbox.prepare()
        await bus.run_once()
        time.now += 61
        if not await outbox.count(EventStatus.PENDING) + await outbox.count(EventStatus.PROCESSING):
            return
    pytest.fail("an event never ends")


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_large_event_of_many_handlers_runs_none_again_that_succeeded_and_keeps_its_error(
    make: Callable[..., Any], items: Items, time: Time, mode: str
) -> None:
    errors: list[OutboxError] = []
    outbox = make(conditional_writes=mode, max_retries=2, base_backoff=1.0, on_error=errors.append)
    bus = OutboxEventBus(outbox, max_handlers=20, on_error=errors.append)
    runs: Counter[str] = Counter()

    async def handle(event: Event, delivery: Delivery) -> None:
        runs[delivery.handler] += 1
        number = int(delivery.handler[:3])
        if number == 0:
            raise ValueError("the gateway said no")
        if number % 2:
            async with delivery.transaction():
                pass

    names = long_names(20)
    for name in names:
        bus.on("t", handle, name=name)
    await outbox.publish([largest_event()])
    await run_until_nothing_is_left(bus, outbox, time)
    assert runs == dict.fromkeys(names, 1) | {names[0]: 3}
    (failed,) = await bus.get_failed_events()
    assert failed.retry_count == 2
    assert failed.handled_by == set(names[1:])
    # A name of 200 characters leaves no place for the message in the shortest form; the handler is told in any case.
    assert failed.last_error.startswith(names[0][:60])
    assert {type(error).__name__ for error in errors} == {"HandlerError"}
    assert (await items())["large"]["status"] == {"S": "FAILED"}


@pytest.mark.cases(1, thorough=3)
@pytest.mark.parametrize("count", [3, 20, 60])
async def test_event_whose_worker_dies_after_its_handlers_filled_the_item_ends(
    make: Callable[..., Any], items: Items, time: Time, count: int
) -> None:
    outbox = make(max_retries=1)
    await outbox.publish([largest_event()])
    (claim,) = await outbox.claim(1)
    recorded: set[str] = set()
    # Of different lengths, so that they leave no more room than there has to be.
    for name in [*long_names(count, 255), *long_names(9, 30), *long_names(99, 3)]:
        with suppress(OutboxError):
            await outbox.transact([], [], done=HandlerDone(claim=claim, handler=name, completes=False))
            recorded.add(name)
    # It dies, and the next one does as well.
    await outbox.publish([Event("t", id="small")])
    await outbox.claim(1)
    time.now += 31
    recovered = await outbox.recover()
    assert set(recovered.reset) == {"large", "small"}
    claims = {claim.event.id: claim for claim in await outbox.claim(2)}
    assert claims["large"].handled_by == recorded
    time.now += 31
    assert set((await outbox.recover()).failed) == {"large", "small"}
    assert len((await outbox.redrive(["large"])).done) == 1
    (claim, *_) = await outbox.claim(2)
    assert claim.handled_by == recorded
    assert (await items())["large"]["status"] == {"S": "PROCESSING"}


# Repairs


@pytest.mark.parametrize("status", ["FAILED", "PENDING", "HELD"])
@pytest.mark.parametrize("free", [0, 10, 30, 60, 100, 200, 500, 1_000, 3_000])
async def test_event_of_any_size_can_be_discarded(
    make: Callable[..., Any], local_client: Any, table: str, items: Items, *, status: str, free: int
) -> None:
    outbox = make(retention=60)
    item = stored("full", status) | {"gsiSortKey": {"N": str(round(NOW * 1000))}}
    # An event that became HELD has lost its token, so it always has some room.
    await put_full(local_client, table, item, free=max(free, 1) if status == "HELD" else free)
    who = {"reason": "r" * 500, "by": "b" * 128}
    assert (await outbox.discard(["full"], **who)).done == ("full",)
    left = (await items())["full"]
    assert left["status"] == {"S": "DISCARDED"}
    assert "gsiSortKey" not in left
    assert "expireAt" in left
    assert ("discardReason" in left, "discardedOn" in left) == (free >= 500, free >= 30)
    assert len(left.get("discardReason", {}).get("S", "")) == {500: 64, 1_000: 500, 3_000: 500}.get(free, 0)


@pytest.mark.parametrize("free", [0, 30, 100, 500, 3_000])
async def test_event_of_any_size_can_be_replaced(
    make: Callable[..., Any], local_client: Any, table: str, items: Items, free: int
) -> None:
    outbox = make()
    item = stored("full", "FAILED") | {"gsiSortKey": {"N": str(round(NOW * 1000))}}
    await put_full(local_client, table, item, free=free)
    new = Event("t", {"n": 2}, id="new")
    assert (await outbox.replace("full", new, reason="r" * 500, by="b" * 128)).done == ("full",)
    assert {name: each["status"]["S"] for name, each in (await items()).items()} == {
        "full": "DISCARDED",
        "new": "PENDING",
    }


async def test_event_with_a_full_item_can_be_held_and_resumed(
    make: Callable[..., Any], items: Items, time: Time
) -> None:
    outbox = make()
    await outbox.publish([largest_event()])
    (claim,) = await outbox.claim(1)
    for name in [*long_names(60, 255), *long_names(9, 30), *long_names(99, 3)]:
        with suppress(OutboxError):
            await outbox.transact([], [], done=HandlerDone(claim=claim, handler=name, completes=False))
    assert await outbox.settle([(claim, Held(due_at=time.now))]) == [None]
    assert await outbox.resume("t") == 1
    assert (await items())["large"]["status"] == {"S": "PENDING"}


# What others stored


def stored(event_id: str, status: str, **more: Any) -> dict[str, Any]:
    item = {
        "id": {"S": event_id},
        "type": {"S": "t"},
        "payload": {"M": {}},
        "occurredAt": {"S": "2024-01-02T03:04:05Z"},
        "status": {"S": status},
        "gsiSortKey": {"N": PAST},
        "retryCount": {"N": "0"},
    } | more
    return {name: value for name, value in item.items() if value is not None}


ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "ninth retry": {"retryCount": {"N": "9"}},
    "ninety-ninth retry": {"retryCount": {"N": "99"}},
    "no retries": {"retryCount": None},
    "retries as text": {"retryCount": {"S": "3"}},
    "short sort key": {"gsiSortKey": {"N": "1"}},
    "negative sort key": {"gsiSortKey": {"N": "-5"}},
    "error as number": {"lastError": {"N": "1"}},
    "short error": {"lastError": {"S": "x"}},
    "handlers as list": {"handledBy": {"L": []}},
    "handlers": {"handledBy": {"SS": ["g"]}},
    "token as number": {"claimToken": {"N": "1"}},
    "token": {"claimToken": {"S": "x" * 32}, "startedOn": {"N": PAST}},
    "no type": {"type": None},
    "payload as text": {"payload": {"S": "x"}},
}


@pytest.mark.thorough
@pytest.mark.parametrize("full", [True, False], ids=["full", "small"])
@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "FAILED"])
async def test_stored_items_of_all_kinds_end_and_delay_no_other_event(  # noqa: PLR0917 - fixtures
    make: Callable[..., Any], local_client: Any, table: str, items: Items, time: Time, status: str, *, full: bool
) -> None:
    errors: list[Any] = []
    outbox = make(max_retries=2, base_backoff=1.0, batch_size=5, on_error=errors.append)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    handled: list[str] = []

    async def fail(event: Event) -> None:
        raise ValueError("no")

    async def succeed(event: Event) -> None:
        handled.append(event.id)

    bus.on("t", fail, name="f")
    bus.on("t", succeed, name="s")
    bus.on("good", succeed, name="g")
    for name, odd in ODD.items():
        item = stored(name, status, **odd)
        await (put_full(local_client, table, item) if full else local_client.put_item(TableName=table, Item=item))
    await outbox.publish([Event("good", id=f"good{number}") for number in range(5)])
    await outbox.publish([Event("good", id="lost")])
    if status == "FAILED" and not full:
        assert len((await outbox.redrive(list(ODD))).done) == len(ODD)
    elif status == "FAILED":
        # There is no room for another attempt, and the call says so. It does not end the repair of other events.
        await local_client.put_item(TableName=table, Item=stored("small", "FAILED"))
        repaired = await outbox.redrive([*ODD, "small"])
        assert "small" in repaired.done
        assert set(repaired.done).isdisjoint(repaired.refused)
        assert {*repaired.done, *repaired.refused} == {*ODD, "small"}
        assert repaired.refused["no retries"] is EventStatus.FAILED
    await run_until_nothing_is_left(bus, outbox, time)
    after = await items()
    told = {getattr(error, "event_id", None) for error in errors}
    for name in ODD:
        assert after[name]["status"] == {"S": "FAILED"}
        assert name in told or "lastError" in after[name] or (full and status != "PENDING"), name
    assert {f"good{number}" for number in range(5)} <= set(handled)
    if not full:
        counts = Counter(handled)
        assert all(counts[name] <= 1 for name in ODD if name != "handlers as list"), counts


async def test_lease_that_no_worker_can_have_runs_out(
    make: Callable[..., Any],
    local_client: Any,
    table: str,
    items: Items,
    time: Time,
) -> None:
    outbox = with_timing(make(max_retries=0), far_leases=0.0)
    far = {"nanoseconds": f"{round(NOW * 1e9)}", "largest": "1E125"}
    for name, sort_key in far.items():
        item = stored(name, "PROCESSING", gsiSortKey={"N": sort_key})
        await local_client.put_item(TableName=table, Item=item)
    await outbox.publish([Event("t", id="held")])
    (held,) = await outbox.claim(1)
    # A lease may be extended by years, and is not taken for one of these.
    assert await outbox.renew([(held, NOW + 9 * 365 * 86_400)]) == [None]
    recovered = await outbox.recover()
    assert sorted(recovered.failed) == ["largest", "nanoseconds"]
    assert (await items())["held"]["status"] == {"S": "PROCESSING"}


@pytest.mark.parametrize("rows", [12, 230])
async def test_rows_that_cannot_be_written_are_reported_and_all_others_are_recovered_at_once(  # noqa: PLR0917 - fixtures
    make: Callable[..., Any], proxy: Proxy, local_client: Any, table: str, time: Time, rows: int
) -> None:
    outbox = make()
    ids = [f"e{number:03}" for number in range(rows)]
    await outbox.publish([Event("t", id=event_id) for event_id in ids])
    await outbox.claim(rows)
    time.now += 31
    broken = {"e000", "e001", "e011"}

    def rule(request: Recorded) -> Any:
        return (
            refused("ValidationException", "odd")
            if request.body.get("Key", {}).get("id", {}).get("S") in broken
            else None
        )

    proxy.rule = rule
    # Its count takes no addition: more than 38 digits.
    await local_client.put_item(TableName=table, Item=stored("tiny", "PROCESSING", retryCount={"N": "1E-130"}))
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    raised = None
    try:
        await bus.run_once()
    except StorageError as error:
        raised = error
    assert raised is None
    assert await outbox.count(EventStatus.PROCESSING) == len(broken) + 1
    assert {error.event_id for error in errors if isinstance(error, RecoveryError)} == {*broken, "tiny"}
    # Not told again each time, and recovered once it can be.
    proxy.requests.clear()
    assert (await outbox.recover()).reset == ()
    assert proxy.count("UpdateItem") == 0
    proxy.rule = lambda request: None
    time.now += 31
    recovered = await outbox.recover()
    assert set(recovered.reset) == broken
    assert [error.event_id for error in recovered.errors] == ["tiny"]


async def test_item_without_room_for_a_claim_is_reported_with_its_reason(
    make: Callable[..., Any], local_client: Any, table: str
) -> None:
    errors: list[Any] = []
    outbox = make(on_error=errors.append)
    await put_full(local_client, table, stored("full", "PENDING"))
    await outbox.publish([Event("t", id="good")])
    assert [claim.event.id for claim in await outbox.claim(10)] == ["good"]
    (error,) = errors
    assert isinstance(error, StoredEventError)
    assert "no room" in str(error)
    assert [event.id for event in await outbox.failed_events()] == ["full"]
    assert await outbox.claim(10) == []


async def put_nearly_full(client: Any, table: str, item: dict[str, Any], *, bytes_left: int) -> None:
    size = sum(len(name) + size_of(value) for name, value in item.items()) + len("filler")
    filler = {"S": "f" * (MAX_ITEM_BYTES - bytes_left - size)}
    await client.put_item(TableName=table, Item=item | {"filler": filler})


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_item_without_room_for_the_name_of_the_worker_is_claimed_without_it(
    make: Callable[..., Any], local_client: Any, table: str, items: Items, mode: str
) -> None:
    outbox = make(conditional_writes=mode)
    before = stored("full", "PENDING", claimedBy={"S": "h/1/0"})
    await put_nearly_full(local_client, table, before, bytes_left=66)
    await put_nearly_full(local_client, table, stored("roomy", "PENDING"), bytes_left=200)
    assert {claim.event.id for claim in await outbox.claim(10)} == {"full", "roomy"}
    after = await items()
    assert "claimedBy" not in after["full"]
    assert after["roomy"]["claimedBy"] == {"S": worker_identity.text}


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_class_and_handler_of_an_error_go_before_its_text(
    make: Callable[..., Any], local_client: Any, table: str, items: Items, mode: str
) -> None:
    outbox = make(conditional_writes=mode)
    await put_nearly_full(local_client, table, stored("full", "PENDING"), bytes_left=160)
    (claim,) = await outbox.claim(1)
    failed = Failed(error="the bank is closed", error_type="BankError", error_handler="h" * 200)
    assert await outbox.settle([(claim, failed)]) == [None]
    after = (await items())["full"]
    assert (after["status"], after["lastError"]) == ({"S": "FAILED"}, {"S": "the bank is closed"})
    assert {"errorType", "errorHandler", "claimedBy"}.isdisjoint(after)


@pytest.mark.parametrize(("bytes_left", "is_given_back"), [(63, True), (62, False), (61, False)])
async def test_item_without_a_handler_ends_although_it_has_no_room_for_the_time(  # noqa: PLR0917 - fixtures
    make: Callable[..., Any],
    local_client: Any,
    table: str,
    items: Items,
    time: Time,
    bytes_left: int,
    *,
    is_given_back: bool,
) -> None:
    errors: list[OutboxError] = []
    outbox = make(max_retries=2, base_backoff=1.0, unhandled_timeout=100.0, on_error=errors.append)
    await put_nearly_full(local_client, table, stored("large", "PENDING"), bytes_left=bytes_left)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    assert await bus.run_once() == is_given_back
    assert ("unhandledSince" in (await items())["large"]) == is_given_back
    await run_until_nothing_is_left(bus, outbox, time)
    assert (await items())["large"]["status"] == {"S": "FAILED"}
    assert {type(error).__name__ for error in errors} >= {"NoHandlerError"}
