"""Why an event that was in no index came into it with another retry."""

from __future__ import annotations

from typing import Final

from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.history import EmitUnknown, ErrorReported, SettleFailed, StoringRequest, Written

WINDOW_LOST: Final = "WindowLostError"


def was_entered(write: Written, timeline: Timeline) -> bool:
    """Return whether an event that was in no index had to be recovered by a write.

    Its window was taken, or its holder has lost the window, or its holder does not know whether the event or an outcome
    is stored.
    """
    before = write.before
    if before is None or not before.is_unlisted:
        return False
    if timeline.is_taken(before, write.at):
        return True
    records = timeline.records_of(write.event_id)
    if any(isinstance(record, (EmitUnknown, SettleFailed)) and began_of(record) <= write.at for record in records):
        return True
    failed = [record for record in records if isinstance(record, StoringRequest) and record.error]
    # The emit of a list ends later than the write of one of its events.
    is_unknown = any(isinstance(record, EmitUnknown) for record in records)
    if is_unknown and any(request.at <= write.at for request in failed):
        return True
    lost = [error for error in timeline.of(ErrorReported) if error.kind == WINDOW_LOST and error.at <= write.at]
    return any(write.worker in ("", error.worker) for error in lost)


def began_of(record: EmitUnknown | SettleFailed) -> float:
    """Return the earliest time at which its worker may have known what a record says."""
    return began(record) if isinstance(record, SettleFailed) else record.at
