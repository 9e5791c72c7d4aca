"""Builds the writes of discards."""

from __future__ import annotations

from collections.abc import Mapping

from dynamodb_outbox.dynamodb.conditional.repair_transitions import discard
from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, SHORT_ERROR_CHARS, Item, error_text, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.fences import Fence
from dynamodb_outbox.port import OutboxOptions


class Discards:
    """Builds the writes of discards."""

    def __init__(self, options: OutboxOptions, *, retention: float | None) -> None:
        self._options = options
        self._retention = retention

    def values(self, *, reason: str, by: str, replacement: str | None = None) -> dict[str, AttributeValue]:
        """Return the values of a discard that begins now. A repeat of the same write has the same values."""
        now = self._options.clock()
        values: dict[str, AttributeValue] = {"now": millis(now), "by": error_text(by), "reason": {"S": reason}}
        if self._retention is not None:
            values["expiry"] = {"N": str(int(now + self._retention))}
        if replacement is not None:
            values["replacement"] = {"S": replacement}
        return values

    def write(self, event_id: str, values: Mapping[str, AttributeValue], fence: Fence | None, room: Room) -> Write:
        """Return the discard of one event, in the form for this room."""
        transition = discard(
            fenced=fence is not None, expires="expiry" in values, replaced="replacement" in values, room=room
        )
        limit = MAX_ERROR_CHARS if room is Room.ENOUGH else SHORT_ERROR_CHARS
        shortened = {**values, "reason": error_text(values["reason"]["S"], limit)}
        return Write(transition, event_id, shortened | seen_by(fence))


def seen_by(fence: Fence | None) -> Item:
    """Return the values of the condition that an event is as somebody saw it."""
    return {} if fence is None else {"was": {"S": fence.status.value}, "seen": {"N": fence.sort_key or "0"}}
