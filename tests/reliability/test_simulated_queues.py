"""The writes to the queue of a key, on the simulated backend and on DynamoDB Local: the same replies and items.

The queues are narrow, so that they soon have heads and pages.
"""

from __future__ import annotations

import random
from typing import Any, Final
from uuid import uuid4

import pytest

from dynamodb_outbox.dynamodb.conditional.rendering import statement, update_item, update_transact_item
from dynamodb_outbox.dynamodb.conditional.transitions import CLAIM, FAIL, RELEASE, RENEW, RETRY, Transition, Write
from dynamodb_outbox.dynamodb.ordering import appending
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.operator_transitions import RETRY_FRONT, RETURN_TO_LINE, substitute
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, PAGE_PREFIX, Queue, id_list, queue_id, read_queue
from dynamodb_outbox.dynamodb.ordering.transitions import (
    HOLD_QUEUE,
    MARK_COMPLETED,
    MARK_COMPLETED_WITH_EXPIRY,
    MARK_FAILED,
    RECOVER_QUEUE,
    Pop,
    form_of,
    pop,
)
from dynamodb_outbox.dynamodb.schema.shards import Shards
from tests.reliability.both_backends import TABLE, Request, reply_of

EVENTS: Final = tuple("abcdef")
TOKENS: Final = ("t1", "t2", NOBODY)
DELIVERIES: Final = (CLAIM, CLAIM, RENEW, RETRY, RELEASE, FAIL, RECOVER_QUEUE, HOLD_QUEUE)
MARKS: Final = (MARK_COMPLETED, MARK_COMPLETED_WITH_EXPIRY, MARK_FAILED, RETURN_TO_LINE)
KEY: Final = "k"
NO_QUEUE: Final = Queue(key=KEY, ids=("a",))
DELETION: Final[Request] = ("delete_item", {"TableName": TABLE, "Key": {"id": {"S": queue_id(KEY)}}})
KINDS: Final = {"event": 2, "append": 6, "write": 10, "refill": 2, "requeue": 2}
"""How often each kind of request is made."""


def time_of(dice: random.Random) -> dict[str, str]:
    return {"N": dice.choice("123")}


def append_of(dice: random.Random, seen: Queue | None) -> list[dict[str, Any]]:
    """The entries of an append, a split or a spill, each with its chance to be refused."""
    ids = tuple(dice.sample(EVENTS, dice.choice([1, 1, 2])))
    new_queue = NewQueue(now=dice.randint(1, 3), token=dice.choice(TOKENS), ends=dice.choice([None, 2.0]))
    append = Append(key=KEY, ids=ids, new_queue=new_queue, shards=Shards(dice.choice([1, 3])))
    kinds = ["append", "append", "append", "split", *(["spill"] if seen is not None and seen.head else [])]
    match dice.choice(kinds):
        case "append":
            return [{"Update": append.append(TABLE)}]
        case "split":
            return [{"Update": append.split(TABLE)}]
        case _:
            assert seen is not None
            return append.spill(TABLE, seen)


def values_of(dice: random.Random, seen: Queue) -> dict[str, Any]:
    """A value for everything that any transition asks for. Most name the event at the front, and the token."""
    front = seen.front if dice.random() < 0.9 else dice.choice(EVENTS)
    token = seen.token if dice.random() < 0.7 else dice.choice(TOKENS)
    return {
        **{name: time_of(dice) for name in ("now", "deadline", "seen", "due", "retries", "max", "expiry", "number")},
        "token": {"S": token},
        "next": {"S": dice.choice(TOKENS)},
        "nobody": {"S": NOBODY},
        "error": {"S": "boom"},
        "error_type": {"S": "ValueError"},
        "error_handler": {"S": "h"},
        "worker": {"S": "host/1/3f9a2c"},
        "type": {"S": "t"},
        "one": {"N": "1"},
        "zero": {"N": "0"},
        "front": {"S": front},
        "replacement": {"S": dice.choice(EVENTS)},
        "was": {"S": seen.status or "FAILED"},
        "key": {"S": KEY},
        "only": id_list((front,)),
        "page": id_list(tuple(dice.sample(EVENTS, 2))),
    }


def pop_of(dice: random.Random, seen: Queue) -> Transition:
    form = form_of(seen) if dice.random() < 0.7 else dice.choice(list(Pop))
    return pop(form, keeps=dice.random() < 0.5, by_operator=dice.random() < 0.3)


def write_of(dice: random.Random, seen: Queue | None) -> Write:
    queue = seen or NO_QUEUE
    if dice.random() < 0.2:
        return Write(dice.choice(MARKS), dice.choice(EVENTS), values_of(dice, queue))
    operated = (RETRY_FRONT, substitute(in_head=bool(queue.head)))
    transition = pop_of(dice, queue) if dice.random() < 0.6 else dice.choice((*DELIVERIES, *operated))
    return Write(transition, queue.id, values_of(dice, queue))


def request_of(dice: random.Random, seen: Queue | None) -> Request:
    (kind,) = dice.choices(list(KINDS), list(KINDS.values()))
    match kind:
        case "event":
            event = {"id": {"S": dice.choice(EVENTS)}, "status": {"S": "QUEUED"}, "orderingKey": {"S": KEY}}
            condition = {"ConditionExpression": "attribute_not_exists(id)"}
            return "put_item", {"TableName": TABLE, "Item": event, **condition}
        case "append":
            entries = append_of(dice, seen)
            if len(entries) == 1 and dice.random() < 0.8:
                return "update_item", {**entries[0]["Update"], "ReturnValues": "ALL_NEW"}
        case "write":
            write, returning = write_of(dice, seen), dice.random() < 0.5
            # A missing item is another matter, see `test_deletion_of_a_missing_item`.
            if write.transition.batched and (seen is not None or not write.transition.deletes):
                written = statement(write, table_name=TABLE, returning=returning and not write.transition.deletes)
                return "batch_execute_statement", {"Statements": [written]}
            return single(write, returning=returning)
        case "refill":
            queue = seen or NO_QUEUE
            write = Write(pop(Pop.REFILL, keeps=dice.random() < 0.5), queue.id, values_of(dice, queue))
            deletion = {"TableName": TABLE, "Key": {"id": {"S": queue.page_id(max(queue.first_page, 1))}}}
            entries = [entry_of(write), {"Delete": deletion}]
        case _:
            event_id = dice.choice(EVENTS)
            write = Write(MARK_FAILED, event_id, values_of(dice, seen or NO_QUEUE))
            check = {
                "TableName": TABLE,
                "Key": {"id": {"S": queue_id(KEY)}},
                "ConditionExpression": "NOT (#status = :processing AND ids[0] = :id)",
                "ExpressionAttributeNames": {"#status": "status"},
                "ExpressionAttributeValues": {":processing": {"S": "PROCESSING"}, ":id": {"S": event_id}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            entries = [entry_of(write), {"ConditionCheck": check}]
    return "transact_write_items", {"TransactItems": entries, "ClientRequestToken": uuid4().hex}


def single(write: Write, *, returning: bool) -> Request:
    arguments = update_item(write, table_name=TABLE, returning=returning)
    operation = "delete_item" if write.transition.deletes else "update_item"
    return operation, {**arguments, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def entry_of(write: Write) -> dict[str, Any]:
    kind = "Delete" if write.transition.deletes else "Update"
    return {kind: update_transact_item(write, table_name=TABLE)}


async def stored(client: Any) -> dict[str, Any]:
    """All that is stored: the queue, its pages and the events. The ids of pages are those that the queue names."""
    ids = [*EVENTS, queue_id(KEY)]
    found = (await _read(client, ids))["Responses"][TABLE]
    queue = next((read_queue(item) for item in found if item["id"]["S"] == queue_id(KEY)), None)
    if queue is not None and queue.pages:
        pages = [queue.page_id(number) for number in range(1, queue.last_page + 1)]
        found += (await _read(client, pages))["Responses"][TABLE]
    return {item["id"]["S"]: item for item in found}


async def _read(client: Any, ids: list[str]) -> Any:
    wanted = {"Keys": [{"id": {"S": each}} for each in ids], "ConsistentRead": True}
    return await reply_of(client, ("batch_get_item", {"RequestItems": {TABLE: wanted}}))


@pytest.mark.parametrize("both", [("status", "ALL"), ("statusShard", "KEYS_ONLY")], indirect=True)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.thorough), 1])
async def test_queues_are_those_of_dynamodb_local(
    both: tuple[Any, Any, str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "WIDTH", 2)
    local, simulated, _ = both
    dice = random.Random(seed)
    seen, pages, succeeded = None, 0, 0
    for number in range(300):
        # The queue begins anew now and then: a long one of odd items does not get short again.
        request = request_of(dice, seen) if number % 50 else DELETION
        replies = [await reply_of(client, request) for client in (local, simulated)]
        assert replies[0] == replies[1], request
        items = [await stored(client) for client in (local, simulated)]
        assert items[0] == items[1], (request, replies)
        queue = items[0].get(queue_id(KEY))
        # A write may have taken `ids` and left the head: that is no queue.
        seen = None if queue is None or "ids" not in queue else read_queue(queue)
        pages += any(item_id.startswith(PAGE_PREFIX) for item_id in items[0])
        succeeded += not isinstance(replies[0], tuple)
    assert 60 < succeeded < 230  # both answers were met
    assert pages


@pytest.mark.parametrize("both", [("status", "ALL")], indirect=True)
async def test_deletion_of_a_missing_item(both: tuple[Any, Any, str]) -> None:
    local, simulated, _ = both
    write = Write(pop(Pop.LAST, keeps=False), queue_id(KEY), values_of(random.Random(0), NO_QUEUE))
    statements = {"Statements": [statement(write, table_name=TABLE, returning=False)]}
    for request in (single(write, returning=False), ("batch_execute_statement", statements)):
        replies = [await reply_of(client, request) for client in (local, simulated)]
        assert replies[0] == replies[1]
