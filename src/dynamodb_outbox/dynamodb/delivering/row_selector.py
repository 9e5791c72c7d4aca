"""Choosing which due rows of the index this worker tries to claim, and in which order.

A claim that another worker was faster with is refused, and billed. So workers of one table avoid each other: with 8
workers and 500 due rows, each tries the 60 or so rows that are its own by `WorkerMembership`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.delivering.membership import WorkerMembership
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.port import OutboxOptions

INDEX_LAG_SECONDS: Final = 5.0
"""How long the index may still show a claimed event as due. Too short costs a refused write; too long skips a row
that is due again."""
MAX_SPREAD: Final = 8
"""A worker whose claims are refused reads up to 8 times the rows that it wants, and tries a random part of them."""
MAX_PAGE_ROWS: Final = 250
"""The most rows of one page. A row is an id and a sort key, so a page is about 25 KB."""
MAX_LEFT_TO_OTHERS: Final = 2_000
"""How many events without a handler here are remembered."""


class RowSelector:
    """Chooses rows for a worker, from what it knows of its own claims and of other workers.

    It omits rows that were tried in the last seconds, the rows of other workers, and for some time the events that have
    no handler in this worker.
    """

    def __init__(self, options: OutboxOptions, *, membership: WorkerMembership, timing: Timing) -> None:
        self._timing = timing
        self._options = options
        self._membership = membership
        self._spread = 1
        self._just_tried: dict[tuple[str, str], float] = {}
        self._left_to_others: dict[str, float] = {}

    @property
    def is_alone(self) -> bool:
        """Whether no other worker was seen at the same events."""
        return self._membership.count == 1

    @property
    def _factor(self) -> int:
        """A page has this many times the rows wanted, because it holds the rows of other workers, too."""
        return self._spread if self.is_alone else self._membership.count + 1

    def page_size(self, limit: int, *, at_least: int) -> int:
        """Return how many rows to read at once, to find `limit` of them."""
        return min(max(limit * self._factor, at_least), MAX_PAGE_ROWS)

    def select(self, page: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Split a page into the rows of this worker, and rows that other workers should have claimed by now."""
        mine, overdue = self._membership.split_rows(self._not_left_to_others(self._not_just_tried(page)))
        if self.is_alone and self._factor > 1:
            self.shuffle(mine)
        return mine, overdue

    def shuffle(self, rows: list[Item]) -> None:
        """Put rows into a random order, so that two workers with the same rows seldom try the same one."""
        rows.sort(key=lambda _: self._options.random())

    def remember_tried(self, row: Item) -> None:
        """Leave a row out for some seconds: the index may still show it as it was before the claim."""
        self._just_tried[row["id"]["S"], row["gsiSortKey"]["N"]] = anyio.current_time()

    def adapt(self, *, refused: bool) -> None:
        """Spread over twice the rows after a poll with a refused claim, and over half of them after any other poll."""
        self._spread = min(2 * self._spread, MAX_SPREAD) if refused else max(self._spread // 2, 1)

    def leave_to_others(self, event_id: str, *, delay: float) -> None:
        """Leave an event without a handler here to other workers for a while once it is due, in `delay` seconds."""
        while len(self._left_to_others) >= MAX_LEFT_TO_OTHERS:
            del self._left_to_others[next(iter(self._left_to_others))]
        self._left_to_others.pop(event_id, None)
        # The delay doubles each time nobody claims the event, and in the end so does the time that others have for it.
        others = max(delay, self._timing.intervals_for_others * self._options.poll_interval)
        self._left_to_others[event_id] = anyio.current_time() + delay + others

    def forget_handlers(self) -> None:
        """Forget which events have no handler here: the worker may have handlers for them now."""
        self._left_to_others.clear()

    def _not_just_tried(self, rows: Sequence[Item]) -> list[Item]:
        forgotten = anyio.current_time() - INDEX_LAG_SECONDS
        while self._just_tried and next(iter(self._just_tried.values())) < forgotten:
            del self._just_tried[next(iter(self._just_tried))]
        return [row for row in rows if (row["id"]["S"], row["gsiSortKey"]["N"]) not in self._just_tried]

    def _not_left_to_others(self, rows: Sequence[Item]) -> Sequence[Item]:
        if not self._left_to_others:
            return rows
        now = anyio.current_time()
        return [row for row in rows if self._left_to_others.get(row["id"]["S"], now) <= now]
