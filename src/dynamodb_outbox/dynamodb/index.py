"""Reading the status index: the one place that knows its keys. It lags behind the table, and may be stale."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from dynamodb_outbox.dynamodb.client import Caller
from dynamodb_outbox.dynamodb.codec import millis
from dynamodb_outbox.event import EventStatus


class StatusIndex:
    """Queries of the events by status, in the order of their sort key."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def pages(
        self, status: EventStatus, *, within: float, up_to: float | None = None, **params: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Read the rows of a status page by page, those with a sort key `up_to` a time (epoch seconds) only."""
        condition = "#status = :status"
        values = {":status": {"S": status.value}}
        if up_to is not None:
            condition += " AND gsiSortKey <= :until"
            values[":until"] = millis(up_to)
        start: dict[str, Any] = {}
        while True:
            reply = await self._caller.call(
                "query",
                within=within,
                TableName=self._caller.table_name,
                IndexName=self._caller.index_name,
                KeyConditionExpression=condition,
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues=values,
                **params,
                **start,
            )
            yield reply
            if "LastEvaluatedKey" not in reply:
                return
            start = {"ExclusiveStartKey": reply["LastEvaluatedKey"]}
