"""The client of `connect` writes and reads JSON by itself: it says and hears what the SDK's would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus
from dynamodb_outbox.dynamodb.items.values import encode
from dynamodb_outbox.dynamodb.transport.client import tuned_config
from dynamodb_outbox.dynamodb.transport.fast_json import CorruptResponseError, install_fast_json
from reliability.proxy import Proxy, Reply, nth
from tests.backends import SESSION, open_client, open_tuned_client

VALUES: Mapping[str, Any] = {
    "text": 'ü "B": \u2028 \x00 "BS"',
    "number": -12.5e-7,
    "bytes": b"\x00\xff",
    "B": {"B": b"inner", "BS": "text"},
    "BS": [b"1", {"B": "text"}, {"BS": {b"2"}}],
    "blobs": {b"1", b"22"},
    "texts": {"B", "BS"},
    "none": [None, True, {}, [], "", b""],
}
"""Every kind of value, and whatever might be taken for a binary value."""
ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/events"


def item(id_: str) -> dict[str, Any]:
    return {"id": {"S": id_}, "payload": encode(VALUES, numbers="decimal")[0]}


def calls_on(table: str) -> list[tuple[str, dict[str, Any]]]:
    """Calls that say all that the adapter says, and are answered with all that it reads."""
    # PartiQL takes no parameter in the place of a table's name.
    update = f'UPDATE "{table}" SET a = ? WHERE id = ? AND attribute_exists(id) RETURNING ALL NEW *'  # noqa: S608
    statement = {"Statement": update, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return [
        ("put_item", {"TableName": table, "Item": item("a"), "ConditionExpression": "attribute_not_exists(id)"}),
        ("batch_write_item", {"RequestItems": {table: [{"PutRequest": {"Item": item(i)}} for i in "bc"]}}),
        ("batch_get_item", {"RequestItems": {table: {"Keys": [{"id": {"S": i}} for i in "abx"]}}}),
        ("put_item", {"TableName": table, "Item": {"id": {"S": "d"}, "blobs": {"BS": [b"\xfe", b"\xff"]}}}),
        ("batch_get_item", {"RequestItems": {table: {"Keys": [{"id": {"S": "d"}}]}}}),
        (
            "query",
            {
                "TableName": table,
                "KeyConditionExpression": "id = :id",
                "ExpressionAttributeValues": {":id": {"S": "a"}},
                "ReturnConsumedCapacity": "TOTAL",
                "Limit": 1,
            },
        ),
        (
            "update_item",
            {
                "TableName": table,
                "Key": {"id": {"S": "a"}},
                "UpdateExpression": "SET b = :b",
                "ExpressionAttributeValues": {":b": {"B": b"\x01"}},
                "ReturnValues": "ALL_NEW",
            },
        ),
        (
            "batch_execute_statement",
            {"Statements": [{**statement, "Parameters": [{"B": b"\x02"}, {"S": i}]} for i in "bx"]},
        ),
    ]


async def replies_to(client: Any, table: str) -> list[dict[str, Any]]:
    replies = [await getattr(client, operation)(**arguments) for operation, arguments in calls_on(table)]
    for reply in replies:
        assert reply.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    return replies


async def new_table(client: Any, name: str) -> str:
    await client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Any]:
    async with open_tuned_client(proxy.endpoint) as opened:
        yield opened


@pytest.fixture
async def tuned(local_endpoint: str) -> AsyncIterator[Any]:
    async with open_tuned_client(local_endpoint) as client:
        yield client


async def test_it_hears_what_the_sdk_hears(tuned: Any, local_client: Any, table_name: str) -> None:
    # Under the same name, so that no reply differs by it.
    by_client: list[list[dict[str, Any]]] = []
    for client in (local_client, tuned):
        await new_table(client, table_name)
        by_client.append(await replies_to(client, table_name))
        await client.delete_table(TableName=table_name)
    of_the_sdk, ours = by_client
    assert ours == of_the_sdk
    items, statements = ours[2]["Responses"][table_name], ours[-1]["Responses"]
    assert [each["payload"]["M"]["bytes"] for each in items] == [{"B": b"\x00\xff"}] * 2
    assert "Error" in statements[1], "a statement for what is not there is to be refused"


async def test_it_says_what_the_sdk_says(proxy: Proxy, table_name: str) -> None:
    said: list[list[tuple[str, dict[str, Any]]]] = []
    for opened in (open_client, open_tuned_client):
        async with opened(proxy.endpoint) as client:
            await new_table(client, table_name)
            proxy.requests.clear()
            await replies_to(client, table_name)
            said.append([(request.operation, request.body) for request in proxy.requests])
            await client.delete_table(TableName=table_name)
    of_the_sdk, ours = said
    assert len(ours) == len(calls_on(table_name))
    assert ours == of_the_sdk


async def test_an_error_is_the_sdks_with_all_that_it_holds(tuned: Any, table_name: str) -> None:
    await new_table(tuned, table_name)
    put = {"TableName": table_name, "Item": item("a"), "ConditionExpression": "attribute_not_exists(id)"}
    await tuned.put_item(**put)
    with pytest.raises(tuned.exceptions.ConditionalCheckFailedException):
        await tuned.put_item(**put)
    update = {"TableName": table_name, "Key": {"id": {"S": "a"}}, "UpdateExpression": "REMOVE payload"}
    with pytest.raises(ClientError) as caught:
        await tuned.update_item(
            **update,
            ConditionExpression="attribute_not_exists(id)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert caught.value.response["Item"] == item("a")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{not json",
        b"[]",
        b"null",
        b'[["UnprocessedItems", {}]]',
        b'{"UnprocessedItems": null}',
        b'{"UnprocessedItems": {}, "no base64": {"B": "A"}}',
        b'{"UnprocessedItems": {}, "no UTF-8": "\xed\xb8\x80"}',
    ],
)
async def test_response_without_content_is_refused(body: bytes, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    proxy.rule = nth(1, "BatchWriteItem", Reply(200, body))
    await outbox.publish([Event("order.placed") for _ in range(3)])
    assert await outbox.count(EventStatus.PENDING) == 3


@pytest.mark.parametrize("call", range(len(calls_on(""))))
async def test_response_whose_bytes_were_changed_on_the_way_is_refused(call: int, tuned: Any, table_name: str) -> None:
    await new_table(tuned, table_name)
    *earlier, (operation, arguments) = calls_on(table_name)[: call + 1]
    for name, given in earlier:
        await getattr(tuned, name)(**given)
    tuned.meta.events.register_first("before-parse.dynamodb", with_another_space)
    with pytest.raises(CorruptResponseError, match=r"the response has the checksum \d+, but was sent with \d+"):
        await getattr(tuned, operation)(**arguments)


def with_another_space(response_dict: dict[str, Any], **_: Any) -> None:
    response_dict["body"] += b" "


async def test_the_client_of_connect_refuses_changed_responses(local_endpoint: str, table_name: str) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=local_endpoint, conditional_writes="batch"
    ) as outbox:
        await outbox.create_table()
        event = Event("order.placed", {"amount": 1000})
        await outbox.publish([event])
        changed: list[bytes] = []

        def change(response_dict: dict[str, Any], **_: Any) -> None:
            if not changed:
                changed.append(response_dict["body"])
                response_dict["body"] = response_dict["body"].replace(b"1000", b"9000")

        outbox._client.meta.events.register_first("before-parse.dynamodb.BatchExecuteStatement", change)
        (claim,) = await outbox.claim(1)
    assert b"1000" in changed[0], "what was changed is the reply to the claim"
    assert claim.event.payload == {"amount": 1000}


async def test_error_response_whose_bytes_were_changed_on_the_way_is_refused(tuned: Any, table_name: str) -> None:
    await new_table(tuned, table_name)

    def change(response_dict: dict[str, Any], **_: Any) -> None:
        # DynamoDB Local sends no checksum with an error.
        response_dict["headers"] = {**response_dict["headers"], "x-amz-crc32": "1"}

    tuned.meta.events.register_first("before-parse.dynamodb", change)
    with pytest.raises(CorruptResponseError):
        await tuned.put_item(TableName=table_name, Item={"no": {"S": "key"}})


async def test_the_sdk_walks_through_nothing(tuned: Any, table_name: str) -> None:
    await new_table(tuned, table_name)
    to_build: dict[str, str] = {}
    to_parse: dict[str, bytes] = {}

    def build(params: Any, model: Any, **_: Any) -> None:
        to_build[model.name] = str(params)

    def parse(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        to_parse[operation_model.name] = response_dict["body"]

    tuned.meta.events.register("before-parameter-build.dynamodb", build)
    tuned.meta.events.register_last("before-parse.dynamodb", parse)
    await replies_to(tuned, table_name)
    assert to_parse.pop("PutItem") == b"{}"
    assert to_parse == dict.fromkeys(
        ("BatchWriteItem", "BatchGetItem", "Query", "UpdateItem", "BatchExecuteStatement"), b"{}"
    )
    for operation in ("PutItem", "BatchWriteItem", "BatchExecuteStatement"):
        assert "'id'" not in to_build[operation]
        assert "Parameters" not in to_build[operation]


async def test_invalid_value_is_refused_before_it_is_sent(client: Any, proxy: Proxy) -> None:
    with pytest.raises(TypeError, match="object cannot be part of an attribute value"):
        await client.put_item(TableName="t", Item={"id": {"S": object()}})
    assert not proxy.requests


class NotSentError(Exception):
    """Ends a call in place of the request."""


async def test_tables_of_other_accounts_are_requested_at_their_endpoints() -> None:
    """The SDK chooses the endpoint by the account in a table's ARN; no request leaves the machine."""
    urls: list[list[str]] = []

    def end(request: Any, **_: Any) -> None:
        urls[-1].append(request.url)
        raise NotSentError

    for tune in (False, True):
        urls.append([])
        async with SESSION.create_client("dynamodb", region_name="eu-central-1", config=tuned_config(1)) as client:
            if tune:
                install_fast_json(client)
            client.meta.events.register("before-send.dynamodb", end)
            for operation, arguments in calls_on(ARN):
                with pytest.raises(NotSentError):
                    await getattr(client, operation)(**arguments)
    of_the_sdk, ours = urls
    assert ours == of_the_sdk
    assert "https://123456789012.ddb.eu-central-1.amazonaws.com/" in ours
