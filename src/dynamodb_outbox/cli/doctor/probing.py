"""Emits an event and waits for a worker to take it: the only proof that events are delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from dynamodb_outbox.cli.confirming import actor
from dynamodb_outbox.cli.doctor.evidence import Probe
from dynamodb_outbox.event import Event
from dynamodb_outbox.stored_events import EventState

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

PROBE_TYPE: Final = "outbox.doctor"
"""The type of the event. Without a handler for it, the event still shows that a worker takes events."""
INTERVAL: Final = 0.25


async def probe(outbox: Outbox, *, within: float) -> Probe:
    """Emit the event, and watch it; discard it at the end, unless it was completed."""
    event = Event(PROBE_TYPE, {"by": actor()})
    began = time.monotonic()
    await outbox.publish([event])
    stored = None
    while time.monotonic() - began < within:
        stored = await outbox.get(event.id)
        if stored is not None and stored.started_at is not None and stored.state is not EventState.PROCESSING:
            break
        await anyio.sleep(INTERVAL)
    seconds = time.monotonic() - began
    if stored is None or stored.state is not EventState.COMPLETED:
        await outbox.discard([event.id], reason="it was a probe of the doctor", by=actor())
    return Probe(
        event_id=event.id,
        seconds=seconds,
        state=None if stored is None else stored.state,
        was_taken=stored is not None and stored.started_at is not None,
    )
