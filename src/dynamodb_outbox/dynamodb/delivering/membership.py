"""Sharing the work softly between workers that are at the same events.

A claim is what decides; who prefers which event is a hint that may be stale. Workers announce themselves in one small
item beside the events (it has no status, so the index does not hold it): once when they start, and as long as they
meet others at the same events; a worker that is alone writes nothing more until it stops, and then withdraws its
announcement. Each takes the due events that rendezvous
hashing gives it, see https://en.wikipedia.org/wiki/Rendezvous_hashing , and what the others leave for two polls.

Announcements carry a digest of the worker's handlers, so that workers warn whose handlers of a type differ. What the
digest stands for is kept once for all workers that have the same handlers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import anyio

from dynamodb_outbox.dynamodb.delivering.handler_digests import HandlerDigests
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.responses import read_new_item
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.observers import HandlersDiffer, logger
from dynamodb_outbox.port import OutboxOptions

WORKERS_ID: Final = "dynamodb-outbox-workers"
"""The item in which workers announce themselves.

It has an attribute for each worker, with the time of its last announcement and the digest of its handlers, and one for
each such digest, with what it stands for.
"""
ANNOUNCE_SECONDS: Final = 1.0
"""How often workers that have met others announce themselves."""
MAX_SEEN: Final = 2_000
"""Of how many events of others is remembered when they were seen first."""
SEEN_INTERVALS: Final = 10
"""Poll intervals after which that is forgotten, to make place for others."""
GONE_SECONDS: Final = 3.0
"""How long after the last announcement of another worker that was seen it counts as gone."""
PATIENCE: Final = 2
"""Poll intervals after which an event is taken that another worker should have taken."""
SOONEST_SECONDS: Final = 0.2
"""How soon after the last a refused claim may be answered with an announcement."""
ALONE_SECONDS: Final = 10.0
"""How long after the last sign of another worker this one goes on announcing itself."""
CALL_SECONDS: Final = 1.0
OLD_SECONDS: Final = 3_600.0
"""An announcement that is older says nothing of whether its worker still works, unless it changes."""
FORGOTTEN_SECONDS: Final = 86_400.0
"""An announcement that is older is removed. A worker that works alone announces itself only once."""
DOUBTFUL_SECONDS: Final = 60.0
"""A worker that announced itself longer ago may have been killed, and did not withdraw its announcement."""
MAX_OLD: Final = 40
"""Of more announcements, all that are old are removed."""
UNTIDY: Final = 5
"""A worker that has found so much to remove does so at once, also if it has no other reason to announce itself."""
MAX_WARNINGS: Final = 1_000
_PREFIX: Final = "w-"
_HANDLERS: Final = "h-"
# Multiplying mixes what exclusive-or alone would leave lopsided: see Knuth, TAOCP 6.4, Fibonacci hashing.
_MIXER: Final = 2_654_435_761
_MASK: Final = 0xFFFF_FFFF


@dataclass(slots=True)
class _OtherWorker:
    announced: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class _Announcement:
    text: str
    at: float
    handlers: str


class WorkerMembership:
    """The workers that share this table, as far as this one knows."""

    def __init__(self, caller: Caller, options: OutboxOptions) -> None:
        self._caller = caller
        self._options = options
        self._me = _PREFIX + uuid4().hex[:12]
        self._others: dict[str, _OtherWorker] = {}
        self._salt = _salt(self._me)
        self._other_salts: list[int] = []
        self._is_new = False
        self._announced_at = -math.inf
        self._is_announced = False
        self._met_at = -math.inf
        self._forgotten: list[str] = []
        self._handlers = HandlerDigests(handlers={})
        self._handlers_known = False
        self._warned: set[tuple[str, bytes]] = set()
        self._seen_at: dict[str, float] = {}

    @property
    def count(self) -> int:
        """The number of workers at these events, this one included."""
        return 1 + len(self._other_salts)

    def announce(self) -> None:
        """Have this worker announce itself at its next poll, once: workers that start together then know each other."""
        self._is_new = True

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """Have this worker announce its handlers, their names by type, at its next poll, if they have changed."""
        digests = HandlerDigests.of(handlers)
        if digests.name != self._handlers.name:
            self._handlers, self._handlers_known, self._is_new = digests, False, True

    async def heartbeat(self, *, refused: bool) -> None:
        """Announce this worker, and learn of others, where there is reason to. An error changes nothing: it is a hint.

        `refused`: a claim was refused, so another worker is at the same events.
        """
        now = anyio.current_time()
        if refused:
            self._met_at = now
        met = now - self._met_at < ALONE_SECONDS
        if not met:
            # What is known of them is old. Events must not wait for one that has gone.
            self._other_salts = []
        if self._is_new or (met and now - self._announced_at >= (SOONEST_SECONDS if refused else ANNOUNCE_SECONDS)):
            self._is_new, self._announced_at, self._is_announced = False, now, True
            try:
                self._read(await self._announce(), now)
            except StorageError:
                self._other_salts = []

    async def retire(self) -> None:
        """Withdraw the announcement of this worker, if it made one. An error changes nothing: others forget it."""
        self._is_new = False
        if not self._is_announced:
            return
        self._is_announced, self._announced_at = False, -math.inf
        with suppress(StorageError):
            await self._caller.call(
                "update_item",
                within=CALL_SECONDS,
                once=True,
                TableName=self._caller.table_name,
                Key={"id": {"S": WORKERS_ID}},
                UpdateExpression="REMOVE #me",
                ExpressionAttributeNames={"#me": self._me},
            )

    def split_rows(self, rows: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Divide rows into this worker's, and those of others that they have left for long; the rest is theirs."""
        if not self._other_salts:
            return list(rows), []
        now = anyio.current_time()
        patience = now - PATIENCE * self._options.poll_interval
        self._forget_seen(now - SEEN_INTERVALS * self._options.poll_interval)
        mine: list[Item] = []
        left: list[Item] = []
        for row in rows:
            event_id = row["id"]["S"]
            if self._is_mine(event_id):
                mine.append(row)
            elif self._first_seen(event_id, now) <= patience:
                left.append(row)
        return mine, left

    def _first_seen(self, event_id: str, now: float) -> float:
        """Tell when an event was seen first; of a crowd of them, the first to be seen are remembered."""
        if len(self._seen_at) < MAX_SEEN:
            return self._seen_at.setdefault(event_id, now)
        return self._seen_at.get(event_id, now)

    def _forget_seen(self, before: float) -> None:
        while self._seen_at and next(iter(self._seen_at.values())) < before:
            del self._seen_at[next(iter(self._seen_at))]

    def _is_mine(self, event_id: str) -> bool:
        """Tell whether this worker has the highest score for an event."""
        key = zlib.crc32(event_id.encode())
        mine = (key ^ self._salt) * _MIXER & _MASK
        return all(mine >= ((key ^ salt) * _MIXER & _MASK) for salt in self._other_salts)

    async def _announce(self) -> dict[str, Any]:
        names = {"#me": self._me}
        values: dict[str, AttributeValue] = {":me": {"S": f"{self._options.clock() * 1000:.0f} {self._handlers.name}"}}
        settings = "SET #me = :me"
        if self._handlers.name and not self._handlers_known:
            names["#handlers"] = _HANDLERS + self._handlers.name
            values[":handlers"] = {"B": self._handlers.details}
            settings += ", #handlers = :handlers"
        # The handlers may have changed since: a digest that nobody used then may be the one that is set now.
        forgotten = [name for name in self._forgotten if name not in names.values()]
        removed = {f"#old{index}": name for index, name in enumerate(forgotten)}
        attributes: dict[str, Any] = await self._caller.call(
            "update_item",
            within=CALL_SECONDS,
            TableName=self._caller.table_name,
            Key={"id": {"S": WORKERS_ID}},
            read=read_new_item,
            UpdateExpression=f"{settings} REMOVE {', '.join(removed)}" if removed else settings,
            ExpressionAttributeNames=names | removed,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
        )
        return attributes

    def _read(self, item: dict[str, Any], now: float) -> None:
        # What is no announcement, whoever wrote it, must not stand in the way of claims.
        announced = {
            name: announcement
            for name, value in item.items()
            if name.startswith(_PREFIX) and name != self._me and (announcement := _announcement(value))
        }
        clock = self._options.clock()
        others: dict[str, _OtherWorker] = {}
        for name, announcement in announced.items():
            before = self._others.get(name)
            # By its change, and not by its time: clocks differ. One that is new may be alive.
            if before is not None and before.announced == announcement.text:
                others[name] = before
            else:
                is_old = before is None and announcement.at < clock - OLD_SECONDS
                others[name] = _OtherWorker(announcement.text, -math.inf if is_old else now)
        self._others = others
        alive = [name for name, peer in others.items() if now - peer.changed_at < GONE_SECONDS]
        if any(others[name].changed_at == now for name in alive):
            self._met_at = now
        self._other_salts = [_salt(name) for name in alive]
        self._warn_of_other_handlers(announced, item, clock)
        self._tidy(announced, item, clock)

    def _warn_of_other_handlers(
        self, announced: Mapping[str, _Announcement], item: Mapping[str, Any], clock: float
    ) -> None:
        """Warn, once for each type and for what the others have of it."""
        if not self._handlers.name:
            return
        latest: dict[str, tuple[float, str]] = {}
        for name, announcement in announced.items():
            before = latest.get(announcement.handlers, (clock - FORGOTTEN_SECONDS, ""))
            latest[announcement.handlers] = max(before, (announcement.at, name))
        for digest, (at, worker) in latest.items():
            if not worker or digest == self._handlers.name:
                continue
            for event_type, names, theirs in self._handlers.differing(_bytes(item.get(_HANDLERS + digest))):
                if (event_type, theirs) not in self._warned and len(self._warned) < MAX_WARNINGS:
                    self._warned.add((event_type, theirs))
                    self._warn(event_type, names, worker=worker, seconds=max(clock - at, 0.0))

    def _warn(self, event_type: str, names: tuple[str, ...], *, worker: str, seconds: float) -> None:
        logger.warning(
            "another worker of table %r, which announced itself %.0f s ago%s, has other handlers of %r than this one, "
            "which has %s. This is harmless while an old release is being stopped: the events that it takes miss the "
            "handlers that it lacks; otherwise register the same handlers in both",
            self._caller.table_name,
            seconds,
            " and may be gone" if seconds > DOUBTFUL_SECONDS else "",
            event_type,
            ", ".join(names),
        )
        if observers := self._caller.observers:
            observers.notify(HandlersDiffer(event_type=event_type, handlers=names, worker=worker, seconds=seconds))

    def _tidy(self, announced: Mapping[str, _Announcement], item: Mapping[str, Any], clock: float) -> None:
        """Find what the next announcement removes, so that the item stays small."""
        kept_for = FORGOTTEN_SECONDS if len(announced) <= MAX_OLD else OLD_SECONDS
        forgotten = [name for name, announcement in announced.items() if announcement.at < clock - kept_for]
        used = {announced[name].handlers for name in announced.keys() - set(forgotten)} | {self._handlers.name}
        unused = [name for name in item if name.startswith(_HANDLERS) and name.removeprefix(_HANDLERS) not in used]
        self._forgotten = [*forgotten, *unused][:50]
        if len(self._forgotten) >= UNTIDY:
            self._is_new = True
        self._handlers_known = _HANDLERS + self._handlers.name in item


def _announcement(value: Any) -> _Announcement | None:
    try:
        text: str = value["S"] if "S" in value else value["N"]
        time, _, handlers = text.partition(" ")
        at = float(time) / 1000
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return _Announcement(text, at, handlers) if math.isfinite(at) else None


def _bytes(value: Any) -> Any:
    return value.get("B") if isinstance(value, dict) else None


def _salt(worker: str) -> int:
    return zlib.crc32(worker.encode())
