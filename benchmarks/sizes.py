"""Payloads from 0.5 to 100 KB: CPU next to the floor, and units with both projections of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks import accounting, delivering, emitting
from benchmarks.engine import Clients
from benchmarks.payloads import text

KILOBYTES: Final = (0.5, 1.0, 4.0, 10.0, 30.0, 100.0)
COUNTED: Final = 10
"""Units are the same for every event: so many are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRun:
    """One size of payload. CPU is in microseconds an event."""

    kilobytes: float
    emit_cpu: float
    emit_ratio: float
    deliver_cpu: float
    deliver_ratio: float
    units_all: float
    units_keys_only: float
    read_all: float
    read_keys_only: float


async def of_payload(clients: Clients, *, kilobytes: float, count: int) -> SizeRun:
    """Emit and deliver events of a size, fewer of the large ones."""
    payload = text(kilobytes)
    count = max(50, round(count / max(kilobytes, 1.0)))
    emitted = await emitting.many(clients, count=count, payload=payload)
    delivered = await delivering.backlog(clients, count=count, payload=payload)
    everything = await accounting.polled(clients.ours, count=COUNTED, mode="single", payload=payload)
    keys_only = await accounting.polled(
        clients.ours, count=COUNTED, mode="single", payload=payload, projection="KEYS_ONLY"
    )
    return SizeRun(
        kilobytes=kilobytes,
        emit_cpu=emitted.ours.cpu / count * 1e6,
        emit_ratio=emitted.ours.cpu / emitted.floor.cpu,
        deliver_cpu=delivered.ours.cpu / count * 1e6,
        deliver_ratio=delivered.ours.cpu / delivered.floor.cpu,
        units_all=everything.written,
        units_keys_only=keys_only.written,
        read_all=everything.read,
        read_keys_only=keys_only.read,
    )
