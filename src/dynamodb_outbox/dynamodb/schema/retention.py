"""A warning for a retention that deletes nothing, because time to live is off."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.dynamodb.schema.table import TTL_ATTRIBUTE, Table
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.observers import logger

TTL_CHECK_SECONDS: Final = 2.0
"""The time limit of the request. It is short, because the recovery of expired leases waits for the response."""


class RetentionReminder:
    """Logs a warning if a retention is set, but the table's time to live is off, so that no event is deleted.

    Checks the table once after each start of a worker, when the first event is completed. Ignores errors, because the
    role may lack `dynamodb:DescribeTimeToLive`, which no other part of a worker needs.
    """

    def __init__(self, table: Table, *, table_name: str, retention: float | None) -> None:
        self._table = table
        self._table_name = table_name
        self._retention = retention
        self._is_asked = False
        self._has_completed = False

    def begin(self) -> None:
        """Check again after the next completion, because the table may have changed since the last start."""
        self._is_asked = self._has_completed = False

    def completed(self) -> None:
        """Note that an event was completed with an expiry."""
        self._has_completed = True

    async def remind(self) -> None:
        """Check the table and log the warning, once, after the first completion."""
        if self._retention is None or self._is_asked or not self._has_completed:
            return
        self._is_asked = True
        try:
            if await self._table.has_time_to_live(within=TTL_CHECK_SECONDS):
                return
        except StorageError:
            return
        logger.warning(
            "The outbox has a retention of %g s, but the table %r has no time to live on the attribute %r. So DynamoDB "
            "does not delete completed events, and the table grows. Turn time to live on, with the library's templates "
            "or `await outbox.create_table()`, or leave out the retention",
            self._retention,
            self._table_name,
            TTL_ATTRIBUTE,
        )
