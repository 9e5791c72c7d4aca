"""Shorter times for the worker of a bus."""

from __future__ import annotations

from dataclasses import replace

from dynamodb_outbox import OutboxEventBus


def set_timing(bus: OutboxEventBus, **times: float) -> None:
    """Replace times of the worker that the bus starts next; the names are those of `Timing`."""
    setup = replace(bus._setup, timing=replace(bus._setup.timing, **times))
    bus._setup = bus._lifecycle._setup = setup
