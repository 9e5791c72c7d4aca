"""The rule that keeps the order of a key when a worker stands still: no handler starts after its lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dynamodb_outbox.worker.handling.lease import Lease


def is_too_late(lease: Lease, clock: Callable[[], float]) -> bool:
    """Tell whether another worker may hold the ordering key of an event, and handle a later event of the key.

    Always false for an event without a key: a second delivery of it harms no order.
    """
    if lease.claim.event.ordering_key is None:
        return False
    # By both clocks: that of the event loop stands still while a virtual machine is suspended.
    is_over = clock() >= lease.claim.lease_expires_at - lease.margin
    return is_over or lease.is_lost or asyncio.get_running_loop().time() >= lease.safe_end
