"""Reads the backend's log of its writes from DynamoDB Streams."""

from __future__ import annotations

from typing import Any, Final

from reliability.history import Stored, Written
from reliability.journal import stored_of

COARSE: Final = 60.0
"""DynamoDB Local reports only the minute of a write (seconds)."""


async def switch_on(client: Any, *, table_name: str) -> None:
    """Switch on the log of a table."""
    kind = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    await client.update_table(TableName=table_name, StreamSpecification=kind)


async def read_account(client: Any, streams: Any, *, table_name: str, index_key: str = "status") -> list[Written]:
    """Read the log of a table; `client` and `streams` are clients of `dynamodb` and `dynamodbstreams`.

    Items without a status are not events, and are left out.
    """
    reply = await client.describe_table(TableName=table_name)
    arn = reply["Table"]["LatestStreamArn"]
    description = await streams.describe_stream(StreamArn=arn)
    written: list[Written] = []
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


def _written(record: dict[str, Any], index_key: str) -> Written | None:
    change = record["dynamodb"]
    before, after = (_stored(change.get(image), index_key) for image in ("OldImage", "NewImage"))
    if before is None and after is None:
        return None
    minute = change["ApproximateCreationDateTime"].timestamp()
    event_id = change["Keys"]["id"]["S"]
    return Written(at=minute + COARSE, event_id=event_id, before=before, after=after, began_at=minute)


def _stored(image: dict[str, Any] | None, index_key: str) -> Stored | None:
    return stored_of(image, index_key=index_key) if image is not None and "status" in image else None
