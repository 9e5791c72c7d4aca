"""Reads the backend's log of its writes from DynamoDB Streams."""

from __future__ import annotations

from typing import Any, Final

from reliability.items import AnyWritten, record_of_write

COARSE: Final = 60.0
"""DynamoDB Local reports only the minute of a write (seconds)."""


async def switch_on(client: Any, *, table_name: str) -> None:
    """Switch on the log of a table."""
    kind = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    await client.update_table(TableName=table_name, StreamSpecification=kind)


async def read_account(client: Any, streams: Any, *, table_name: str, index_key: str = "status") -> list[AnyWritten]:
    """Read the log of a table; `client` and `streams` are clients of `dynamodb` and `dynamodbstreams`.

    Items that are neither events, nor queues, nor windows are left out.
    """
    reply = await client.describe_table(TableName=table_name)
    arn = reply["Table"]["LatestStreamArn"]
    description = await streams.describe_stream(StreamArn=arn)
    written: list[AnyWritten] = []
    for shard in description["StreamDescription"]["Shards"]:
        records = await _records_of(streams, arn, shard["ShardId"])
        written += [write for write in (_written(record, index_key) for record in records) if write is not None]
    return written


async def _records_of(streams: Any, arn: str, shard: str) -> list[dict[str, Any]]:
    reply = await streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator = reply["ShardIterator"]
    records: list[dict[str, Any]] = []
    while iterator:
        reply = await streams.get_records(ShardIterator=iterator)
        records += reply["Records"]
        # An open shard always has a next page.
        iterator = reply.get("NextShardIterator") if reply["Records"] else None
    return records


def _written(record: dict[str, Any], index_key: str) -> AnyWritten | None:
    change = record["dynamodb"]
    minute = change["ApproximateCreationDateTime"].timestamp()
    images = (change.get("OldImage"), change.get("NewImage"))
    return record_of_write(*images, index_key=index_key, at=minute + COARSE, began_at=minute)
