"""Reading many items by id, as they are in the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.dynamodb.transport.responses import items_of
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error

BATCH_GET: Final = 100
"""DynamoDB's limit for the keys of a BatchGetItem."""


async def get_items(
    caller: Caller,
    ids: Sequence[str],
    *,
    within: float,
    attributes: Sequence[str] = (),
    consistent: bool = True,
    units: ReadUnits | None = None,
) -> dict[str, Any]:
    """Read up to `BATCH_GET` items, by default with consistent reads; return them by id, with all attributes or some.

    Without `consistent`, the items may be stale, and cost half. The cost is added to `units`. Raises `StorageError`.
    """
    how = {"ConsistentRead": consistent, **_projection(attributes)}
    items: dict[str, Any] = {}
    keys = [{"id": {"S": event_id}} for event_id in ids]
    retries = Retries(within, random=caller.random)
    read_items = items_of(caller.table_name)
    capacity: dict[str, Any] = {} if units is None else {"ReturnConsumedCapacity": "TOTAL"}

    def read(response: Mapping[str, Any]) -> Any:
        if units is not None:
            units.add(response)
        return read_items(response)

    while keys:
        found, keys = await caller.call(
            "batch_get_item",
            within=within,
            read=read,
            RequestItems={caller.table_name: {"Keys": keys, **how}},
            **capacity,
        )
        items |= found
        if keys and not await retries.wait():
            reason = "keys came back unprocessed"
            raise deadline_error("batch_get_item", ErrorKind.THROTTLED, attempts=retries.attempts, reason=reason)
    return items


def _projection(attributes: Sequence[str]) -> dict[str, Any]:
    names = {f"#{number}": name for number, name in enumerate(attributes)}
    return {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names} if names else {}
