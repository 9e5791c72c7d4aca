"""Make events of the TypeScript outbox-event-bus events of dynamodb-outbox, in the table where they are.

    python -m examples.migrate_from_typescript events-table --dry-run
    python -m examples.migrate_from_typescript events-table

Stop the TypeScript workers first. Region, credentials and endpoint are found as the AWS SDK finds them, for example in
AWS_DEFAULT_REGION and AWS_ENDPOINT_URL. The program scans the whole table. It may be stopped, and run again.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

Item = dict[str, dict[str, Any]]
SIDE_BY_SIDE = 25
MOVED = {"created": "PENDING", "active": "PENDING", "failed": "FAILED"}
"""The statuses there and here. Events that are `completed` there stay as they are: no worker looks at them."""


def payload_of(item: Item) -> dict[str, Any]:
    """The payload as a map. The TypeScript outbox stores any value, and nothing for `undefined`."""
    payload = item.get("payload", {"NULL": True})
    is_plain_map = "M" in payload and list(payload["M"]) != ["$value"]
    return payload if is_plain_map else {"M": {"$value": payload}}


def update_of(item: Item, now: int) -> dict[str, Any] | None:
    """The arguments of the UpdateItem that moves an event; None if a worker may still handle it.

    `now` is in epoch milliseconds, as all times of both formats.
    """
    status = item["status"]["S"]
    retries = int(item.get("retryCount", {"N": "0"})["N"])
    due = item.get("gsiSortKey", {"N": str(now)})
    if status == "active":
        if int(due["N"]) > now:
            return None
        # A lease that ran out counts as a retry, as it does in both libraries.
        retries, due = retries + 1, {"N": str(now)}
    elif status == "failed":
        due = item.get("nextRetryAt", due)  # there, the time of the failure; such events are in no index
    seen = item.get("gsiSortKey")
    return {
        "Key": {"id": item["id"]},
        "UpdateExpression": (
            "SET #status = :status, payload = :payload, retryCount = :retries, gsiSortKey = :due REMOVE nextRetryAt"
        ),
        # Only if nobody changed the event since the scan.
        "ConditionExpression": "#status = :was AND "
        + ("gsiSortKey = :seen" if seen else "attribute_not_exists(gsiSortKey)"),
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {
            ":status": {"S": MOVED[status]},
            ":payload": payload_of(item),
            ":retries": {"N": str(retries)},
            ":due": due,
            ":was": {"S": status},
        }
        | ({":seen": seen} if seen else {}),
    }


async def migrate(client: Any, table_name: str, *, dry_run: bool = False) -> Counter[str]:
    """Move every event that is not completed; counts the events by what became of them."""
    counts: Counter[str] = Counter()

    async def move(item: Item) -> None:
        status = item["status"]["S"]
        update = update_of(item, round(time.time() * 1000))
        if update is None:
            counts["active, left: its lease has not run out"] += 1
            return
        try:
            if not dry_run:
                await client.update_item(TableName=table_name, **update)
            counts[f"{status}, now {MOVED[status]}"] += 1
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            counts[f"{status}, left: it was changed meanwhile"] += 1

    pages = client.get_paginator("scan").paginate(
        TableName=table_name,
        ConsistentRead=True,
        FilterExpression="#status IN (:created, :active, :failed)",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={f":{status}": {"S": status} for status in MOVED},
    )
    async for page in pages:
        for start in range(0, len(page["Items"]), SIDE_BY_SIDE):
            await asyncio.gather(*map(move, page["Items"][start : start + SIDE_BY_SIDE]))
    return counts


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table_name")
    parser.add_argument("--dry-run", action="store_true", help="count the events, and change nothing")
    arguments = parser.parse_args()
    config = AioConfig(retries={"mode": "standard", "total_max_attempts": 10}, max_pool_connections=SIDE_BY_SIDE)
    async with get_session().create_client("dynamodb", config=config) as client:
        counts = await migrate(client, arguments.table_name, dry_run=arguments.dry_run)
    for what, count in sorted(counts.items()):
        print(f"{count:8,} {what}")
    print("nothing was changed" if arguments.dry_run else "done")


if __name__ == "__main__":
    asyncio.run(main())
