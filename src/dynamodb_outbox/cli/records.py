"""Events, samples, holds and repairs as JSON: the records of `--output json`. `docs/reference/` has their schema."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from dynamodb_outbox.repairs import Hold, Repaired
from dynamodb_outbox.stored_events import Count, Sample, StoredEvent
from dynamodb_outbox.typed_json import to_plain

SCHEMA: Final = 1
"""The version of the records. It changes if a member is removed or gets another meaning."""


def document(kind: str, **members: Any) -> dict[str, Any]:
    """Make a document: one JSON text, with the version of its schema."""
    return {"schema": SCHEMA, "kind": kind, **members}


def time_of(moment: datetime | None) -> str | None:
    """Write a time in ISO 8601, in UTC, to the millisecond."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_record(event: StoredEvent, *, payload: bool) -> dict[str, Any]:
    """Write one event; `payload`, `metadata` and the `item` of an unreadable event only if they are asked for."""
    record: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "status": str(event.status),
        "state": str(event.state),
        "occurred_at": None if event.unreadable else time_of(event.occurred_at),
        "retry_count": event.retry_count,
        "due_at": time_of(event.due_at),
        "lease_expires_at": time_of(event.lease_expires_at),
        "started_at": time_of(event.started_at),
        "claimed_by": event.claimed_by,
        "window": event.window,
        "handled_by": sorted(event.handled_by),
        "unhandled_since": time_of(event.unhandled_since),
        "last_error": event.last_error,
        "error_type": event.error_type,
        "error_handler": event.error_handler,
        "failed_at": time_of(event.failed_at),
        "completed_at": time_of(event.completed_at),
        "discarded_at": time_of(event.discarded_at),
        "discarded_by": event.discarded_by,
        "discard_reason": event.discard_reason,
        "replaced_by": event.replaced_by,
        "expires_at": time_of(event.expires_at),
        "unreadable": event.unreadable,
        "ordering_key": event.ordering_key,
        "blocks_key": event.blocks_key,
        "waiting_behind": None if event.waiting_behind is None else count_record(event.waiting_behind),
        "waits_for": event.waits_for,
    }
    if payload:
        shown = {"payload": event.payload, "metadata": dict(event.metadata)}
        record |= {name: to_plain(value, decimals=True) for name, value in shown.items()}
        if event.item is not None:
            record["item"] = event.item
    return record


def sample_record(sample: Sample) -> dict[str, Any]:
    """Write a sample: counts, and the ages in seconds."""
    counts = ("due", "scheduled", "processing", "expired", "failed", "held")
    return {
        "at": time_of(sample.at),
        **{name: count_record(getattr(sample, name)) for name in counts},
        "oldest_due_age": round(sample.oldest_due_age, 3),
        "oldest_expired_age": round(sample.oldest_expired_age, 3),
        "latest_failed": time_of(sample.latest_failed),
        "read_units": sample.read_units,
        "blocked_keys": count_record(sample.blocked_keys),
    }


def count_record(count: Count) -> dict[str, Any]:
    """Write a number of events, which is exact or a lower limit."""
    return {"at_least": count.at_least, "is_exact": count.is_exact}


def hold_record(hold: Hold) -> dict[str, Any]:
    """Write a hold."""
    return {
        "type": hold.type,
        "reason": hold.reason,
        "by": hold.by,
        "since": time_of(hold.since),
        "until": time_of(hold.until),
    }


def repaired_record(repaired: Repaired) -> dict[str, Any]:
    """Write the result of a repair: the ids that were changed, and the status of each other one."""
    refused = [
        {"id": event_id, "status": None if status is None else str(status)}
        for event_id, status in repaired.refused.items()
    ]
    return {"done": list(repaired.done), "refused": refused}
