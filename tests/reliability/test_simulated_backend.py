"""The simulated backend against DynamoDB Local: the same requests, the same replies, the same items.

What the simulation proves is worth as much as its backend. Every write that the library makes is sent to both, with
values of a small pool, so that conditions are true and false in turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.conditional import transitions
from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.dynamodb.conditional.rendering import statement, update_item, update_transact_item
from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import Transition, Write
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.windows import item as window
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.reliability.both_backends import TABLE, Request, reply_of

IDS = ("a", "b", "c", "d", "e")
TOKENS = ("t1", "t2")
NUMBERS = ("1", "2", "3")
HANDLED_BY = (transitions.RETRY, transitions.FAIL, transitions.RELEASE)
TRANSITIONS: tuple[Transition, ...] = (
    transitions.CLAIM,
    transitions.CLAIM,
    transitions.CLAIM_UNNAMED,
    transitions.COMPLETE,
    transitions.RETRY,
    transitions.FAIL,
    transitions.without_details(transitions.FAIL, ("errorHandler",)),
    fitted(transitions.RETRY, Room.FOR_SHORT_ERROR),
    fitted(transitions.RECOVER, Room.FOR_SHORT_ERROR),
    transitions.RELEASE,
    transitions.RENEW,
    transitions.HANDLER_DONE,
    transitions.COMPLETE_BY_HANDLER,
    transitions.RECOVER,
    transitions.RECOVER_FAILED,
    transitions.REDRIVE,
    transitions.ENTER,
    transitions.ENTER_FAILED,
    transitions.TOMBSTONE,
    transitions.TOMBSTONE_ALONE,
    transitions.COMPLETE.also_set("expireAt = :now"),
    *(transition.also_add("handledBy", ":handled") for transition in HANDLED_BY),
)
CONDITIONS: tuple[dict[str, Any], ...] = (
    {"ConditionExpression": "attribute_not_exists(id)"},
    {
        "ConditionExpression": "attribute_not_exists(id) OR #status = :void",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {":void": {"S": window.VOID}},
    },
)


def sort_key(dice: random.Random, event_id: str) -> dict[str, Any]:
    """One of three times of an item, which no other item has: the order of equal ones is nobody's promise."""
    return {"N": dice.choice(NUMBERS) + str(len(event_id) + ord(event_id[0]))}


def values(dice: random.Random, event_id: str) -> dict[str, Any]:
    """A value for everything that any transition asks for."""
    handlers = sorted(dice.sample(["h1", "h2", "h3"], dice.randint(1, 2)))
    return {
        **{name: sort_key(dice, event_id) for name in ("now", "deadline", "seen", "due")},
        **{name: {"N": dice.choice(NUMBERS)} for name in ("retries", "max", "expiry")},
        "window": {"S": dice.choice(["w", "x"])},
        "token": {"S": dice.choice(TOKENS)},
        "error": {"S": dice.choice(["", "boom"])},
        "error_type": {"S": dice.choice(["", "ValueError"])},
        "error_handler": {"S": handlers[0]},
        "worker": {"S": "host/1/3f9a2c"},
        "handled": {"SS": handlers},
        "handler": {"S": handlers[0]},
        "one": {"N": "1"},
        "zero": {"N": "0"},
    }


def write(dice: random.Random, event_id: str | None = None) -> Write:
    event_id = event_id or dice.choice(IDS)
    return Write(dice.choice(TRANSITIONS), event_id, values(dice, event_id))


def batched_write(dice: random.Random, event_id: str) -> Write:
    # Nothing may store the item that is missing, see `statements_request`.
    batched = [each for each in TRANSITIONS if each.batched and not (each.creates and event_id == "missing")]
    return Write(dice.choice(batched), event_id, values(dice, event_id))


def item(dice: random.Random, event_id: str, key_name: str) -> dict[str, Any]:
    status = dice.choice(["PENDING", "PROCESSING"])
    made = {
        "id": {"S": event_id},
        "type": {"S": "t"},
        "payload": {"M": {"n": {"N": "1"}}},
        "status": {"S": status},
        "gsiSortKey": sort_key(dice, event_id),
    }
    if dice.random() < 0.7:
        made["retryCount"] = {"N": "0"}
    if status == "PROCESSING":
        made["claimToken"] = {"S": dice.choice(TOKENS)}
        if dice.random() < 0.5:
            del made["gsiSortKey"]
            return {**made, "window": {"S": dice.choice(["w", "x"])}}
    return made if key_name in made else {**made, key_name: {"S": f"{status}#0"}}


def put(dice: random.Random, key_name: str) -> dict[str, Any]:
    return {
        "TableName": TABLE,
        "Item": item(dice, dice.choice(IDS), key_name),
        **dice.choice(CONDITIONS),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def put_request(dice: random.Random, key_name: str) -> Request:
    return "put_item", put(dice, key_name)


def update_request(dice: random.Random, key_name: str) -> Request:
    return "update_item", update_item(write(dice), table_name=TABLE, returning=dice.random() < 0.5)


def statements_request(dice: random.Random, key_name: str) -> Request:
    ids = [*IDS, "missing"]
    if dice.random() < 0.1:
        # The same item twice is refused; DynamoDB Local makes some of the other writes before it says so.
        ids = ["missing", "missing"]
    returning = dice.random() < 0.5
    return "batch_execute_statement", {
        "Statements": [statement(batched_write(dice, each), table_name=TABLE, returning=returning) for each in ids]
    }


def transaction_request(dice: random.Random, key_name: str) -> Request:
    entries: list[dict[str, Any]] = [
        {"Update": update_transact_item(write(dice, each), table_name=TABLE)} for each in "ab"
    ]
    if dice.random() < 0.5:
        entries = entries[:1]
    if dice.random() < 0.5:
        entries.append({"Put": {**put(dice, key_name), "Item": item(dice, dice.choice("cde"), key_name)}})
    if dice.random() < 0.3:
        condition = {"ConditionExpression": "attribute_exists(id)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        entries.append({"ConditionCheck": {"TableName": TABLE, "Key": {"id": {"S": "missing"}}, **condition}})
    return "transact_write_items", {"TransactItems": entries, "ClientRequestToken": uuid4().hex}


def batch_request(dice: random.Random, key_name: str) -> Request:
    ids = dice.sample(IDS, 2) if dice.random() < 0.9 else ["a", "a"]
    puts = [{"PutRequest": {"Item": item(dice, each, key_name)}} for each in ids]
    return "batch_write_item", {"RequestItems": {TABLE: puts}}


def tombstone(event_id: str) -> dict[str, Any]:
    return {"id": {"S": event_id}, "status": {"S": window.VOID}, "expireAt": {"N": "1"}}


def insert_request(dice: random.Random, key_name: str) -> Request:
    ids = dice.sample(IDS, 2)
    items = [tombstone(each) if dice.random() < 0.3 else item(dice, each, key_name) for each in ids]
    return "batch_execute_statement", {"Statements": [insert_statement(each, table_name=TABLE) for each in items]}


def new_window(dice: random.Random, key_name: str, window_id: str) -> dict[str, Any]:
    start = dice.randint(1, 3)
    return window.new_window(
        window_id,
        token=dice.choice(TOKENS),
        seed=b"seed",
        start=start,
        end=start + 2,
        now=1.0,
        deadline=int(sort_key(dice, window_id)["N"]) / 1000,
        shards=Shards(1 if key_name == "status" else 2),
    )


def window_request(dice: random.Random, key_name: str) -> Request:
    window_id, token, deadline = dice.choice(IDS[:2]), dice.choice(TOKENS), int(sort_key(dice, "a")["N"]) / 1000
    match dice.choice(["insert", "put", "extend", "extend", "take", "take", "close", "delete"]):
        case "insert":
            statement = insert_statement(new_window(dice, key_name, window_id), table_name=TABLE)
            return "batch_execute_statement", {"Statements": [statement]}
        case "put":
            return "put_item", {**put(dice, key_name), "Item": new_window(dice, key_name, window_id)}
        case "extend":
            version, *earlier = dice.sample([window.FIRST_VERSION, "a", "b", "c"], dice.randint(1, 3))
            update = window.extend(
                window_id, token=token, start=2, end=5, version=version, earlier=earlier, deadline=deadline
            )
        case "take":
            update = window.take(window_id, seen=sort_key(dice, window_id), token=token, deadline=deadline)
        case "close":
            update = window.close(window_id, token=token, now=1.0)
        case _:
            versions = dice.sample([window.FIRST_VERSION, "a", "b", "c"], 2)
            return "delete_item", {"TableName": TABLE, **window.delete(window_id, token=token, versions=versions)}
    return "update_item", {"TableName": TABLE, **update}


def invalid_request(dice: random.Random, key_name: str) -> Request:
    wrong: dict[str, Any] = dice.choice(
        [
            {"id": {"S": ""}},
            {"id": {"N": "1"}},
            {"id": {"S": "a"}, "gsiSortKey": {"S": "text"}},
            {"id": {"S": "a"}, "text": {"S": "x" * 409_600}},
        ]
    )
    return "put_item", {"TableName": TABLE, "Item": wrong}


def delete_request(dice: random.Random, key_name: str) -> Request:
    return "delete_item", {"TableName": TABLE, "Key": {"id": {"S": dice.choice(IDS)}}}


def query_request(dice: random.Random, key_name: str) -> Request:
    status = dice.choice(["PENDING", "PROCESSING", "FAILED", "WINDOW"])
    sign = dice.choice(["<=", "<", "=", ">", ">=", ""])
    parameters: dict[str, Any] = {
        "TableName": TABLE,
        "IndexName": "index",
        "KeyConditionExpression": "#key = :key" + (f" AND gsiSortKey {sign} :until" if sign else ""),
        "ExpressionAttributeNames": {"#key": key_name},
        "ExpressionAttributeValues": {":key": {"S": status if key_name == "status" else f"{status}#0"}},
        "ScanIndexForward": dice.random() < 0.7,
    }
    if not sign and dice.random() < 0.4:
        # The row that a page ended with need not be there any more.
        event_id = dice.choice(IDS)
        after = {"id": {"S": event_id}, "gsiSortKey": sort_key(dice, event_id)}
        parameters["ExclusiveStartKey"] = {**after, key_name: parameters["ExpressionAttributeValues"][":key"]}
    if dice.random() < 0.3:
        parameters["ReturnConsumedCapacity"] = "TOTAL"
    if sign:
        parameters["ExpressionAttributeValues"][":until"] = sort_key(dice, dice.choice(IDS))
    if dice.random() < 0.5:
        parameters["Limit"] = dice.randint(1, 3)
    if dice.random() < 0.3:
        parameters["Select"] = "COUNT"
    elif dice.random() < 0.5:
        parameters["ProjectionExpression"] = "id, gsiSortKey"
    return "query", parameters


def read_request(dice: random.Random, key_name: str) -> Request:
    keys = [{"id": {"S": each}} for each in (*dice.sample(IDS, 3), "missing")]
    wanted: dict[str, Any] = {"Keys": keys, "ConsistentRead": True}
    if dice.random() < 0.5:
        # The key is in it, by which the test puts the items in order.
        wanted |= {"ProjectionExpression": "id, #status", "ExpressionAttributeNames": {"#status": "status"}}
    return "batch_get_item", {"RequestItems": {TABLE: wanted}}


REQUESTS: Mapping[Callable[[random.Random, str], Request], int] = {
    put_request: 4,
    update_request: 8,
    statements_request: 4,
    transaction_request: 4,
    batch_request: 1,
    insert_request: 3,
    window_request: 6,
    invalid_request: 1,
    delete_request: 1,
    query_request: 3,
    read_request: 1,
}


@pytest.mark.thorough
@pytest.mark.parametrize("both", [("status", "ALL"), ("status", "KEYS_ONLY"), ("statusShard", "ALL")], indirect=True)
@pytest.mark.parametrize("seed", range(2))
async def test_responses_and_items_are_those_of_dynamodb_local(both: tuple[Any, Any, str], seed: int) -> None:
    local, simulated, key_name = both
    dice = random.Random(seed)
    everything = {"RequestItems": {TABLE: {"Keys": [{"id": {"S": each}} for each in IDS]}}}
    succeeded = 0
    for _ in range(200):
        (kind,) = dice.choices(list(REQUESTS), list(REQUESTS.values()))
        request = kind(dice, key_name)
        replies = [await reply_of(client, request) for client in (local, simulated)]
        assert replies[0] == replies[1], request
        items = [await reply_of(client, ("batch_get_item", everything)) for client in (local, simulated)]
        assert items[0]["Responses"][TABLE] == items[1]["Responses"][TABLE], (request, replies)
        succeeded += not isinstance(replies[0], tuple)
    assert 60 < succeeded < 190  # both answers were met


async def test_table_is_described_as_dynamodb_local_describes_it(local_client: Any, table_name: str) -> None:
    for client in (local_client, direct_client(Backend(clock=lambda: 0.0))):
        outbox = DynamoDBOutbox(client, table_name=table_name, retention=60)
        await outbox.create_table()
        await outbox.create_table()
        await outbox.verify_table()
