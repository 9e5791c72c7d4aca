"""Events that run for long while many others are emitted: each gets its own lease, so that the window can move."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from dynamodb_outbox.dynamodb.conditional.transitions import MOVE_OUT, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.windows.window import Entry, Window
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.port import OutboxOptions


async def move_into_index(
    window: Window, stragglers: Sequence[Entry], *, writer: ConditionalWriter, options: OutboxOptions, within: float
) -> None:
    """Renew the lease of each of these events alone, which puts the event into the index; its worker renews it then."""
    expires_at, ends = options.clock() + options.processing_timeout, anyio.current_time() + options.processing_timeout
    writes = [
        Write(MOVE_OUT, entry.event_id, {"token": {"S": entry.token}, "deadline": millis(expires_at)})
        for entry in stragglers
    ]
    results: Sequence[WriteResult | None] = [None] * len(stragglers)
    try:
        results = await writer.write(writes, within=within, urgent=True)
    finally:
        # Also when the write was cancelled, which leaves every result open.
        for entry, result in zip(stragglers, results, strict=True):
            if result is None or (isinstance(result, StorageError) and result.maybe_applied):
                window.lease.maybe_move_out(entry.token, ends=ends)
    for entry, result in zip(stragglers, results, strict=True):
        match result:
            case Applied():
                window.lease.move_out(entry.token, expires_at=expires_at, ends=ends)
                window.leave(entry)
            case Refused():
                # A handler has extended the lease, or the event is lost. The worker finds out with its next renewal.
                window.lease.move_out(entry.token, expires_at=window.lease.expires_at, ends=window.lease.ends)
                window.leave(entry)
            case _:
                pass  # again with the next extension of the window
