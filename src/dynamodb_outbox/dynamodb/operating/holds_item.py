"""The holds of a table, in one small item: `dynamodb-outbox-holds`.

It has no status, so the index does not contain it. It has an attribute for each hold. A hold that is over stays for an
hour, so that every worker that reads the item learns of its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import error_text, millis, seconds
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.errors import UnavailableError
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.repairs import Hold

HOLDS_ID: Final = "dynamodb-outbox-holds"
KEPT_SECONDS: Final = 3_600.0
"""A hold that has been over for longer is removed by the next hold or resume."""
TRIES: Final = 5
"""How often a change of a hold begins again, because another process has changed the same hold."""
_PREFIX: Final = "hold-"


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A hold, and when it was ended by a resume (epoch seconds), if it was."""

    hold: Hold
    resumed_at: float | None = None

    @property
    def ends_at(self) -> float | None:
        """When it ends or has ended (epoch seconds); None if only a resume ends it."""
        times = [] if self.resumed_at is None else [self.resumed_at]
        if self.hold.until is not None:
            times.append(self.hold.until.timestamp())
        return min(times, default=None)

    def is_over(self, now: float) -> bool:
        """Tell whether it has ended."""
        return self.ends_at is not None and self.ends_at <= now


Holds = Mapping[str | None, StoredHold]
"""All stored holds by their type, also those that are over; the key of the hold of all types is None."""


class HoldsItem:
    """Reads and writes the item."""

    def __init__(self, caller: Caller, options: OutboxOptions, timing: Timing) -> None:
        self._caller = caller
        self._options = options
        self._timing = timing

    async def read(self, *, consistent: bool, within: float) -> Holds:
        """Read all holds. Raises `StorageError`."""
        items = await get_items(self._caller, [HOLDS_ID], within=within, consistent=consistent)
        # Another program may have written any attribute.
        found = (_read_hold(value) for name, value in items.get(HOLDS_ID, {}).items() if name.startswith(_PREFIX))
        return {stored.hold.type: stored for stored in found if stored is not None}

    async def put(self, hold: Hold) -> Holds:
        """Store a hold, in place of an earlier one of the same type; return all. Raises `StorageError`."""
        return await self._change(hold.type, lambda before: StoredHold(hold))

    async def end(self, type: str | None) -> Holds:
        """Note the end of a hold, if it is in force; return all. Raises `StorageError`."""
        now = self._options.clock()

        def end(before: StoredHold | None) -> StoredHold | None:
            return before if before is None or before.is_over(now) else replace(before, resumed_at=now)

        return await self._change(type, end)

    async def _change(self, held: str | None, change: Callable[[StoredHold | None], StoredHold | None]) -> Holds:
        """Change the hold of a type, only as it was read: no late repeat of a write brings an earlier hold back."""
        for _ in range(TRIES):
            before = await self.read(consistent=True, within=self._timing.operator)
            stored = change(before.get(held))
            if stored is None or _attributes_of(stored) == _attributes_of(before.get(held)):
                return before
            try:
                return await self._write(stored, before)
            except ConditionRefused:
                continue
        raise UnavailableError(
            operation="hold", attempts=TRIES, reason="others change the same hold", maybe_applied=False
        )

    async def _write(self, stored: StoredHold, before: Holds) -> Holds:
        oldest = self._options.clock() - KEPT_SECONDS
        held = stored.hold.type
        old = [each for each, kept in before.items() if each != held and kept.is_over(oldest)]
        names = {"#hold": _name_of(held)} | {f"#old{number}": _name_of(each) for number, each in enumerate(old)}
        removed = ", ".join(name for name in names if name != "#hold")
        values: dict[str, AttributeValue] = {":hold": {"M": _attributes_of(stored)}}
        if held in before:
            values[":before"] = {"M": _attributes_of(before[held])}
        await self._caller.call(
            "update_item",
            within=self._timing.operator,
            TableName=self._caller.table_name,
            Key={"id": {"S": HOLDS_ID}},
            UpdateExpression="SET #hold = :hold" + (f" REMOVE {removed}" if removed else ""),
            ConditionExpression="#hold = :before" if held in before else "attribute_not_exists(#hold)",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )
        return {each: kept for each, kept in before.items() if each not in old} | {held: stored}


def _name_of(type: str | None) -> str:
    """Return the name of the attribute. It has a digest of the type, which may be long."""
    return f"{_PREFIX}all" if type is None else f"{_PREFIX}{sha256(type.encode()).hexdigest()[:32]}"


def _attributes_of(stored: StoredHold | None) -> dict[str, AttributeValue]:
    if stored is None:
        return {}
    hold = stored.hold
    attributes: dict[str, AttributeValue] = {
        "reason": error_text(hold.reason),
        "by": error_text(hold.by),
        "since": millis(hold.since.timestamp()),
    }
    if hold.type is not None:
        attributes["type"] = {"S": hold.type}
    if hold.until is not None:
        attributes["until"] = millis(hold.until.timestamp())
    if stored.resumed_at is not None:
        attributes["resumedOn"] = millis(stored.resumed_at)
    return attributes


def _read_hold(value: Any) -> StoredHold | None:
    try:
        attributes = value["M"]
        hold = Hold(
            type=attributes["type"]["S"] if "type" in attributes else None,
            reason=attributes["reason"]["S"],
            by=attributes["by"]["S"],
            since=_time(attributes["since"]),
            until=_time(attributes["until"]) if "until" in attributes else None,
        )
        return StoredHold(hold, seconds(attributes["resumedOn"]) if "resumedOn" in attributes else None)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _time(value: Any) -> datetime:
    return datetime.fromtimestamp(seconds(value), UTC)
