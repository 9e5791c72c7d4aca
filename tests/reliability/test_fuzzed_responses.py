"""Whatever the engine answers: a typed error or a repetition, never a crash of the worker or a lost event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, OutboxError, OutboxEventBus, StoredEventError
from dynamodb_outbox.dynamodb.items.codec import decode_claim, encode_event
from dynamodb_outbox.dynamodb.items.failed import decode_failed
from reliability.proxy import Proxy, Recorded, Reply
from tests.conftest import MakeOutbox
from tests.dynamodb.impatience import giving_up_after
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, eventually, first_of_each, ids_and_tokens, kind_of

KEYS = ["Items", "Count", "Responses", "UnprocessedItems", "UnprocessedKeys", "Attributes", "Item", "Error", "Code"]
KEYS += ["events", "id", "S", "N", "M", "Table", "LastEvaluatedKey", "gsiSortKey", "claimToken", "PutRequest", "w-x"]
scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.text(max_size=3)
replies = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def client(either_client: Any) -> Any:
    return either_client


class Meta:
    class events:  # noqa: N801 - as the SDK names it
        @staticmethod
        def register(*arguments: Any, **named: Any) -> None:
            pass


class Answering:
    """A client that gives the same answer to everything."""

    meta = Meta

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __getattr__(self, operation: str) -> Any:
        async def call(**params: Any) -> Any:
            return self._answer

        return call


ROW = {"id": {"S": "e"}, "gsiSortKey": {"N": "1"}}
CLAIMED = {**ROW, "claimToken": {"S": "t"}, "status": {"S": "FAILED"}}
NO_CLAIMS = {
    "empty": {},
    "no id": {key: value for key, value in CLAIMED.items() if key != "id"},
    "no token": {key: value for key, value in CLAIMED.items() if key != "claimToken"},
    "an id that is no text": CLAIMED | {"id": {"S": 5}},
    "an id of another type": CLAIMED | {"id": {"N": "5"}},
    "a token that is no attribute": CLAIMED | {"claimToken": "t"},
    "no sort key": {key: value for key, value in CLAIMED.items() if key != "gsiSortKey"},
    "another token": CLAIMED,
}


def answer_with(item: Any) -> dict[str, Any]:
    return {"Items": [ROW], "Responses": [{"Item": item}], "Attributes": item}


@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("item", NO_CLAIMS.values(), ids=NO_CLAIMS)
async def test_claim_whose_response_is_not_a_claim_is_repeated_under_its_token(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, *, mode: str, item: dict[str, Any]
) -> None:
    outbox = make_outbox(conditional_writes=mode)
    await outbox.publish([Event("order.placed", id="e")])
    proxy.requests.clear()
    proxy.rule = first_of_each("claim", lambda reply: answer_with(item))
    claims = await outbox.claim(1)
    assert [claim.event.id for claim in claims] == ["e"]
    (claim,) = claims
    assert (await items())["e"]["claimToken"] == {"S": claim.token}
    assert [ids_and_tokens(request)["e"] for request in proxy.requests if kind_of(request) == "claim"] == [
        claim.token
    ] * 2


SPOILED = {
    "handledBy": [5, {"SS": 5}, {"SS": [{}]}, {"L": [{"S": "h"}]}],
    "lastError": [5, {"S": 5}, {"N": "5"}],
    "retryCount": [5, {"N": "1E125"}, {"N": "-2.5"}, {"N": None}, {"S": "5"}],
    "metadata": [5, {"M": 5}, {"S": "5"}],
    "payload": [5, {"M": {"": {"X": 5}}}],
    "occurredAt": [5, {"S": "now"}, {"N": "1"}],
    "type": [5, {"S": ""}, {"S": 5}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SPOILED.items() for value in values])
def test_item_that_others_have_stored_is_read_as_a_claim_and_as_a_dead_letter_or_refused_by_name(
    name: str, value: Any
) -> None:
    item, _ = encode_event(Event("order.placed", {"n": 1}, id="e"), due_at=1.0, numbers="native")
    item |= {"claimToken": {"S": "t"}, name: value}
    try:
        claim = decode_claim(item, numbers="native")
    except StoredEventError as error:
        assert error.event_id == "e"
    else:
        assert claim.token == "t"
        assert claim.attempt >= 1
    failed = decode_failed(item, numbers="native")
    assert (failed.id, failed.failed_at.year) == ("e", 1970)
    assert isinstance(failed.last_error, str)
    assert failed.retry_count >= 0


@pytest.mark.parametrize("mode", ["batch", "single", "auto"])
@settings(max_examples=60, deadline=None)
@given(answer=replies)
@example(answer={"Items": [{"id": {"S": "e"}, "gsiSortKey": {"N": "1"}}], "Responses": [{}], "Attributes": {}})
@example(answer=answer_with(NO_CLAIMS["empty"]))
@example(answer=answer_with(NO_CLAIMS["no id"]))
@example(answer=answer_with(NO_CLAIMS["no token"]))
@example(answer=answer_with(NO_CLAIMS["an id that is no text"]))
@example(answer=answer_with(NO_CLAIMS["another token"]))
@example(answer={"Responses": {"events": [CLAIMED]}, "Items": [ROW]})
@example(answer={"Attributes": {"w-x": {"S": "no time"}, "w-y": 5, "w-z": {"N": "1.5"}}, "Items": []})
@example(answer={"Responses": [{"Error": {"Code": "Unknown"}}]})
@example(answer={"UnprocessedItems": {"events": [{"PutRequest": {"Item": {"id": {"S": "unknown"}}}}]}})
@example(answer={"Table": {}})
@example(answer={"Items": [], "LastEvaluatedKey": {}})
@example(answer={"Items": [], "LastEvaluatedKey": {"id": {"S": "e"}}})
@example(answer={"Responses": {"events": [{"id": 5}]}, "Items": [{"id": {"S": "e"}, "gsiSortKey": {"N": "x"}}]})
async def test_any_response_is_a_typed_error_or_an_answer(mode: Any, answer: Any) -> None:
    client: Any = Answering(answer)
    outbox = DynamoDBOutbox(client, table_name="events", conditional_writes=mode, processing_timeout=1)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    bus.on("order.placed", Runs())
    outbox._parts.membership.announce()
    calls: list[Any] = [
        lambda: bus.emit("order.placed"),
        lambda: bus.emit_many([Event("order.placed") for _ in range(2)]),
        bus.run_once,
        outbox.recover,
        lambda: outbox.claim(3),
        lambda: outbox.count(EventStatus.PENDING),
        bus.get_failed_events,
        lambda: bus.retry_events(["e"]),
        outbox.verify_table,
    ]
    with giving_up_after(2):
        for call in calls:
            try:
                await call()
            except OutboxError as error:
                assert str(error)


GARBAGE = [
    {},
    {"Items": 5},
    {"Responses": []},
    {"Responses": [{"Error": {}}]},
    {"UnprocessedItems": []},
    {"Attributes": 1},
]


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(answers=st.lists(st.sampled_from(GARBAGE) | st.dictionaries(st.sampled_from(KEYS), scalars), min_size=8))
async def test_worker_continues_after_any_response_and_loses_nothing(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, answers: list[dict[str, Any]]
) -> None:
    left = list(answers)

    async def garbled(request: Recorded) -> Any:
        # Some are carried out and some are not; who is told nonsense cannot know.
        if not left:
            return None
        answer = left.pop()
        return Reply(200, answer) if len(left) % 2 and request.operation != "PutItem" else lambda reply: answer

    outbox = make_outbox(on_error=lambda error: None, max_retries=20)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    proxy.rule = garbled
    async with bus:
        events = [await bus.emit("order.placed"), *await bus.emit_many([Event("order.placed") for _ in range(5)])]
        await eventually(lambda: set(runs.ids) >= {event.id for event in events})
        await bus.drain(30)
        assert bus.running
    proxy.rule = lambda request: None
    stored = await items()
    assert {stored[event.id]["status"]["S"] for event in events} == {"COMPLETED"}
