"""Holds: orders to all workers of a table not to start events. This module checks the arguments of an order.

The outbox stores it, and `worker/hold_gate.py` obeys it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairing import check_by, check_reason
from dynamodb_outbox.typed.event_types import selected_type
from dynamodb_outbox.wording import shown


async def hold(
    outbox: Outbox, type: object, *, reason: str, until: datetime | None = None, by: str | None = None
) -> None:
    """Hold a type, or all types; see `OutboxEventBus.hold`. Raises `ConfigurationError` and `StorageError`."""
    name = selected_type(type)
    await outbox.hold(name, reason=check_reason(reason), by=check_by(by), until=_check_until(until, outbox))


async def resume(outbox: Outbox, type: object) -> int:
    """End a hold; see `OutboxEventBus.resume`. Raises `ConfigurationError` and `StorageError`."""
    return await outbox.resume(selected_type(type))


def _check_until(until: object, outbox: Outbox) -> datetime | None:
    if until is None:
        return None
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(
            f"until={shown(until)}: it must be a datetime with a time zone, such as "
            "datetime.now(UTC) + timedelta(minutes=30)"
        )
    if until.timestamp() <= outbox.options.clock():
        raise ConfigurationError(f"until={shown(until)}: it is in the past")
    return until.astimezone(UTC)
