"""Reminding of a retention that deletes nothing, because the table's time to live is off."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.dynamodb.schema.table import TTL_ATTRIBUTE, Table
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.observers import logger

CALL_SECONDS: Final = 2.0
"""How long the table is asked, at most: a look for expired leases waits for the answer."""


class RetentionReminder:
    """Logs a warning if completed events are to be deleted and will not be.

    The table is asked once for each start of a worker, after the first completion. An error ends it without a word: the
    role may lack `dynamodb:DescribeTimeToLive`, which nothing else needs.
    """

    def __init__(self, table: Table, *, table_name: str, retention: float | None) -> None:
        self._table = table
        self._table_name = table_name
        self._retention = retention
        self._is_asked = False
        self._has_completed = False

    def begin(self) -> None:
        """Ask again, after the next completion: the table may have changed since the last start."""
        self._is_asked = self._has_completed = False

    def completed(self) -> None:
        """Note that an event is completed, and has an expiry."""
        self._has_completed = True

    async def remind(self) -> None:
        """Ask the table, if it is time to."""
        if self._retention is None or self._is_asked or not self._has_completed:
            return
        self._is_asked = True
        try:
            if await self._table.has_time_to_live(within=CALL_SECONDS):
                return
        except StorageError:
            return
        logger.warning(
            "The outbox has a retention of %g s, but the table %r has no time to live on the attribute %r, so DynamoDB "
            "deletes no completed event and the table grows: turn it on, with the templates of this library or with "
            "`await outbox.create_table()`, or leave out the retention",
            self._retention,
            self._table_name,
            TTL_ATTRIBUTE,
        )
