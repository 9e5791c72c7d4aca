"""Measures payloads from 0.5 to 100 KB: CPU next to the baseline, and units with both projections of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks import accounting, delivering, emitting
from benchmarks.backend import Clients
from benchmarks.payloads import events, text

KILOBYTES: Final = (0.5, 1.0, 4.0, 10.0, 30.0, 100.0)
COUNTED: Final = 10
"""The number of events whose units are counted. Every event has the same units, so a few are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRun:
    """The results for one size of payload. CPU is in microseconds per event."""

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
    """Emit and deliver events of a given size; the number of events falls with the size."""
    payload = text(kilobytes)
    count = max(50, round(count / max(kilobytes, 1.0)))
    emitted = await emitting.many(clients, count=count, payload=payload)
    delivered = await delivering.backlog(clients, count=count, payload=payload)
    everything = await accounting.polled(clients.ours, events(COUNTED, payload), mode="single")
    keys_only = await accounting.polled(clients.ours, events(COUNTED, payload), mode="single", projection="KEYS_ONLY")
    return SizeRun(
        kilobytes=kilobytes,
        emit_cpu=emitted.ours.cpu / count * 1e6,
        emit_ratio=emitted.ours.cpu / emitted.baseline.cpu,
        deliver_cpu=delivered.ours.cpu / count * 1e6,
        deliver_ratio=delivered.ours.cpu / delivered.baseline.cpu,
        units_all=everything.written,
        units_keys_only=keys_only.written,
        read_all=everything.read,
        read_keys_only=keys_only.read,
    )
