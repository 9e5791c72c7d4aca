"""The workers that share a table, and which due events each of them tries first.

Workers announce themselves when they start, and once a second as long as they meet others at the same events. Each
worker takes the due events that rendezvous hashing gives it, see https://en.wikipedia.org/wiki/Rendezvous_hashing :
with 8 workers and 500 due rows, about 60 rows each. After two poll intervals it also takes what the others have left.

All of this is a hint that may be stale; the conditional write of a claim decides. A worker that is alone announces
itself once, writes nothing more, and withdraws the announcement when it stops.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.dynamodb.delivering.announcements import OLD_SECONDS, Announcement, Announcements
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.port import OutboxOptions

ANNOUNCE_SECONDS: Final = 1.0
"""How often a worker that has met others announces itself."""
SOONEST_SECONDS: Final = 0.2
"""The shortest time between two announcements, even if claims are refused."""
ALONE_SECONDS: Final = 10.0
"""How long after the last sign of another worker this worker continues to announce itself."""
GONE_SECONDS: Final = 3.0
"""Another worker counts as gone this long after its last new announcement was seen."""
PATIENCE: Final = 2
"""After this many poll intervals, a worker takes an event that another worker should have taken."""
MAX_SEEN: Final = 2_000
"""At most this many events of other workers are remembered, each with the time when it was first seen."""
SEEN_INTERVALS: Final = 10
"""After this many poll intervals, the time when an event was first seen is forgotten."""
# Multiplying mixes what exclusive-or alone would leave lopsided: see Knuth, TAOCP 6.4, Fibonacci hashing.
_MIXER: Final = 2_654_435_761
_MASK: Final = 0xFFFF_FFFF


@dataclass(slots=True)
class _OtherWorker:
    announced: str
    changed_at: float


class WorkerMembership:
    """The workers that share this table, as far as this worker knows."""

    def __init__(self, announcements: Announcements, options: OutboxOptions, timing: Timing) -> None:
        self._announcements = announcements
        self._options = options
        self._timing = timing
        self._others: dict[str, _OtherWorker] = {}
        self._salt = _salt(announcements.name)
        self._other_salts: list[int] = []
        self._must_announce = False
        self._announced_at = -math.inf
        self._is_announced = False
        self._met_at = -math.inf
        self._seen_at: dict[str, float] = {}

    @property
    def count(self) -> int:
        """How many workers claim from this table as far as this worker knows, itself included."""
        return 1 + len(self._other_salts)

    def announce(self) -> None:
        """Announce this worker at its next poll, so that workers that start together know each other."""
        self._must_announce = True

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> bool:
        """Announce the handlers of this worker, their names by type, at its next poll; return whether they are new."""
        have_changed = self._announcements.set_handlers(handlers)
        self._must_announce = self._must_announce or have_changed
        return have_changed

    async def heartbeat(self, *, refused: bool) -> None:
        """Announce this worker and read the other announcements, if there is a reason.

        `refused`: a claim was refused, so another worker is at the same events. After an error, this worker counts
        itself as alone until it learns otherwise.
        """
        now = self._timing.loop_time()
        if refused:
            self._met_at = now
        has_met = now - self._met_at < ALONE_SECONDS
        if not has_met:
            # The announcements of the others are old. No event waits for a worker that is gone.
            self._other_salts = []
        interval = SOONEST_SECONDS if refused else ANNOUNCE_SECONDS
        if self._must_announce or (has_met and now - self._announced_at >= interval):
            self._must_announce, self._announced_at, self._is_announced = False, now, True
            try:
                self._read(await self._announcements.announce(), now)
            except StorageError:
                self._other_salts = []

    async def retire(self) -> None:
        """Withdraw the announcement of this worker, if it made one."""
        self._must_announce = False
        if self._is_announced:
            self._is_announced, self._announced_at = False, -math.inf
            await self._announcements.withdraw()

    def split_rows(self, rows: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Return the rows of this worker, and rows that other workers should have claimed by now; omit all others."""
        if not self._other_salts:
            return list(rows), []
        now = self._timing.loop_time()
        patience = now - PATIENCE * self._options.poll_interval
        self._forget_seen(now - SEEN_INTERVALS * self._options.poll_interval)
        mine: list[Item] = []
        overdue: list[Item] = []
        for row in rows:
            event_id = row["id"]["S"]
            if self._is_mine(event_id):
                mine.append(row)
            elif self._first_seen(event_id, now) <= patience:
                overdue.append(row)
        return mine, overdue

    def _first_seen(self, event_id: str, now: float) -> float:
        """Return when an event was first seen; beyond `MAX_SEEN` events, a new event counts as seen now."""
        if len(self._seen_at) < MAX_SEEN:
            return self._seen_at.setdefault(event_id, now)
        return self._seen_at.get(event_id, now)

    def _forget_seen(self, before: float) -> None:
        while self._seen_at and next(iter(self._seen_at.values())) < before:
            del self._seen_at[next(iter(self._seen_at))]

    def _is_mine(self, event_id: str) -> bool:
        """Return whether this worker has the highest score for an event."""
        key = zlib.crc32(event_id.encode())
        mine = (key ^ self._salt) * _MIXER & _MASK
        return all(mine >= ((key ^ salt) * _MIXER & _MASK) for salt in self._other_salts)

    def _read(self, announced: Mapping[str, Announcement], now: float) -> None:
        clock = self._options.clock()
        others: dict[str, _OtherWorker] = {}
        for name, announcement in announced.items():
            before = self._others.get(name)
            # A worker is alive if its announcement changes. The times in it are of another clock.
            if before is not None and before.announced == announcement.text:
                others[name] = before
            else:
                # Old when this worker first sees it: most likely the announcement of a killed worker.
                is_old = before is None and announcement.at < clock - OLD_SECONDS
                others[name] = _OtherWorker(announcement.text, -math.inf if is_old else now)
        self._others = others
        alive = [name for name, other in others.items() if now - other.changed_at < GONE_SECONDS]
        if any(others[name].changed_at == now for name in alive):
            self._met_at = now
        self._other_salts = [_salt(name) for name in alive]
        self._must_announce = self._must_announce or self._announcements.is_untidy


def _salt(worker: str) -> int:
    return zlib.crc32(worker.encode())
