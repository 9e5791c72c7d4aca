"""The proxy does to requests what it says: of a cut before, the engine never hears; of a cut after, it has."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from dynamodb_outbox import DynamoDBOutbox
from reliability.proxy import CUT_AFTER, CUT_BEFORE, RESET_AFTER, nth, running_proxy
from tests.backends import open_client


@pytest.mark.parametrize(
    ("action", "is_applied"),
    [(CUT_BEFORE, False), (CUT_AFTER, True), (RESET_AFTER, True)],
    ids=lambda value: str(value),
)
async def test_cut_connections_have_reached_the_backend_or_not(
    local_endpoint: str, local_client: Any, table_name: str, action: str, *, is_applied: bool
) -> None:
    await DynamoDBOutbox(local_client, table_name=table_name).create_table()
    async with running_proxy(local_endpoint) as proxy, open_client(proxy.endpoint) as client:
        proxy.rule = nth(1, "PutItem", action)
        with pytest.raises(BotoCoreError):
            await client.put_item(TableName=table_name, Item={"id": {"S": "a"}})
        # The next one comes after all that the first could do.
        await client.put_item(TableName=table_name, Item={"id": {"S": "b"}})
    reply = await local_client.scan(TableName=table_name, ConsistentRead=True)
    assert {item["id"]["S"] for item in reply["Items"]} == ({"a", "b"} if is_applied else {"b"})
