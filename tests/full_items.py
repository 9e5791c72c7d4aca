"""Items that are as large as DynamoDB lets an item be."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.items.codec import MAX_ITEM_BYTES
from dynamodb_outbox.dynamodb.items.sizes import size_of


async def put_full(client: Any, table: str, item: dict[str, Any], *, free: int = 0) -> None:
    """Put an item that is as large as DynamoDB lets one be, but for some bytes that stay free."""
    size = sum(len(name) + size_of(value) for name, value in item.items()) + len("filler")
    # Our count is a byte too high for some numbers.
    for more in (4, 3, 2, 1, 0) if not free else (0,):
        filler = {"S": "f" * (MAX_ITEM_BYTES - size + more - free)}
        with suppress(ClientError):
            await client.put_item(TableName=table, Item=item | {"filler": filler})
            return
    raise AssertionError("the item is too large")
