"""Announcements of the workers of a table, in one small item.

The item is `dynamodb-outbox-workers`. It has no status, so the index does not contain it. It has an attribute for each
worker, with the time of its last announcement and the digest of its handlers, and an attribute for each digest, with
what it stands for. With 8 workers of one release these are 8 attributes and 1 digest.

Two workers with different handlers of one type log a warning.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from dynamodb_outbox.dynamodb.delivering.handler_digests import HandlerDigests
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.responses import read_new_item
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.observers import HandlersDiffer, logger
from dynamodb_outbox.port import OutboxOptions

WORKERS_ID: Final = "dynamodb-outbox-workers"
"""The id of the item in which workers announce themselves."""
OLD_SECONDS: Final = 3_600.0
"""The worker of an older announcement counts as gone, unless the announcement changes."""
FORGOTTEN_SECONDS: Final = 86_400.0
"""An older announcement is removed. A worker that works alone announces itself only once."""
DOUBTFUL_SECONDS: Final = 60.0
"""The worker of an older announcement may have been killed, so that it did not withdraw its announcement."""
MAX_OLD: Final = 40
"""If the item has more announcements, all old ones are removed."""
UNTIDY: Final = 5
"""A worker that finds 5 or more attributes to remove announces itself soon, in order to remove them."""
MAX_WARNINGS: Final = 1_000
_PREFIX: Final = "w-"
_HANDLERS: Final = "h-"


@dataclass(frozen=True, slots=True)
class Announcement:
    """The announcement of another worker: the stored text, the time in it, and the digest of the handlers."""

    text: str
    at: float
    handlers: str


class Announcements:
    """Writes the announcement of this worker, and reads the announcements of the others."""

    def __init__(self, caller: Caller, options: OutboxOptions, timing: Timing) -> None:
        self.name = _PREFIX + uuid4().hex[:12]
        """The attribute of this worker in the item."""
        self.handlers = HandlerDigests(handlers={})
        self._caller = caller
        self._options = options
        self._timing = timing
        self._handlers_known = False
        self._forgotten: list[str] = []
        self._warned: set[tuple[str, bytes]] = set()

    @property
    def is_untidy(self) -> bool:
        """Whether the item has enough old attributes that the next announcement should not wait."""
        return len(self._forgotten) >= UNTIDY

    def set_handlers(self, handlers: Mapping[str, Collection[str]]) -> bool:
        """Take the handlers for the next announcement, by their names for each type; tell whether they are new."""
        digests = HandlerDigests.of(handlers)
        if digests.name == self.handlers.name:
            return False
        self.handlers, self._handlers_known = digests, False
        return True

    async def announce(self) -> dict[str, Announcement]:
        """Announce this worker; return the announcements of the others by name. Raises `StorageError`."""
        item = await self._write()
        # Another program may have written any attribute. A claim must not fail because of it.
        announced = {
            name: announcement
            for name, value in item.items()
            if name.startswith(_PREFIX) and name != self.name and (announcement := _announcement(value))
        }
        clock = self._options.clock()
        self._warn_of_other_handlers(announced, item, clock)
        self._tidy(announced, item, clock)
        return announced

    async def withdraw(self) -> None:
        """Remove the announcement of this worker. An error changes nothing: the others forget the worker in time."""
        # Without a worker that uses it, the digest of the handlers may be removed before the next announcement.
        self._handlers_known = False
        with suppress(StorageError):
            await self._caller.call(
                "update_item",
                within=self._timing.announcement,
                once=True,
                TableName=self._caller.table_name,
                Key={"id": {"S": WORKERS_ID}},
                UpdateExpression="REMOVE #me",
                ExpressionAttributeNames={"#me": self.name},
            )

    async def _write(self) -> dict[str, Any]:
        names = {"#me": self.name}
        values: dict[str, AttributeValue] = {":me": {"S": f"{self._options.clock() * 1000:.0f} {self.handlers.name}"}}
        settings = "SET #me = :me"
        if self.handlers.name and not self._handlers_known:
            names["#handlers"] = _HANDLERS + self.handlers.name
            values[":handlers"] = {"B": self.handlers.details}
            settings += ", #handlers = :handlers"
        # The handlers may have changed since the last read: do not remove the digest that this write sets.
        forgotten = [name for name in self._forgotten if name not in names.values()]
        removed = {f"#old{index}": name for index, name in enumerate(forgotten)}
        attributes: dict[str, Any] = await self._caller.call(
            "update_item",
            within=self._timing.announcement,
            TableName=self._caller.table_name,
            Key={"id": {"S": WORKERS_ID}},
            read=read_new_item,
            UpdateExpression=f"{settings} REMOVE {', '.join(removed)}" if removed else settings,
            ExpressionAttributeNames=names | removed,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
        )
        return attributes

    def _warn_of_other_handlers(
        self, announced: Mapping[str, Announcement], item: Mapping[str, Any], clock: float
    ) -> None:
        """Warn once for each type, and for each set of handlers that other workers have for it."""
        if not self.handlers.name:
            return
        latest: dict[str, tuple[float, str]] = {}
        for name, announcement in announced.items():
            before = latest.get(announcement.handlers, (clock - FORGOTTEN_SECONDS, ""))
            latest[announcement.handlers] = max(before, (announcement.at, name))
        for digest, (at, worker) in latest.items():
            if not worker or digest == self.handlers.name:
                continue
            for event_type, names, theirs in self.handlers.differing(_bytes(item.get(_HANDLERS + digest))):
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

    def _tidy(self, announced: Mapping[str, Announcement], item: Mapping[str, Any], clock: float) -> None:
        """Find the attributes that the next announcement removes, so that the item stays small."""
        kept_for = FORGOTTEN_SECONDS if len(announced) <= MAX_OLD else OLD_SECONDS
        forgotten = [name for name, announcement in announced.items() if announcement.at < clock - kept_for]
        used = {announced[name].handlers for name in announced.keys() - set(forgotten)} | {self.handlers.name}
        unused = [name for name in item if name.startswith(_HANDLERS) and name.removeprefix(_HANDLERS) not in used]
        self._forgotten = [*forgotten, *unused][:50]
        self._handlers_known = _HANDLERS + self.handlers.name in item


def announced_workers(item: Mapping[str, Any]) -> dict[str, float]:
    """Read the workers in the item, each with the time of its latest announcement in epoch seconds."""
    found = {name: _announcement(value) for name, value in item.items() if name.startswith(_PREFIX)}
    return {name: announcement.at for name, announcement in found.items() if announcement is not None}


def _announcement(value: Any) -> Announcement | None:
    try:
        text: str = value["S"] if "S" in value else value["N"]
        time, _, handlers = text.partition(" ")
        at = float(time) / 1000
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return Announcement(text, at, handlers) if math.isfinite(at) else None


def _bytes(value: Any) -> Any:
    return value.get("B") if isinstance(value, dict) else None
