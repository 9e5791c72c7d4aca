"""The times of the adapter that no option sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds, unless a field says otherwise. Tests build an outbox with other times."""

    loop_time: Callable[[], float] = anyio.current_time
    """The time by which workers judge whether another worker is gone."""

    publish: float = 10.0
    """How long the write of an event is repeated."""
    batch_response: float = 5.0
    """How long DynamoDB may take to answer one batch of events, however late it is sent."""
    emit_group: float = 0.03
    """How long an emit waits for the response to the write of another emit. Most responses take 5 to 20 ms."""
    transact: float = 10.0
    """How long a transaction is repeated that conflicts with others, or whose responses are lost."""
    created_queues: float = 1.0
    """How long a committed transaction tries to read the queues of its keys: less than a cancelled handler waits for
    its commit (`commit_seconds` of a worker)."""

    window_upkeep: float = 1 / 3
    """The part of a lease after which a window is renewed or closed."""
    window_pause: float = 600.0
    """How long no window opens after two were lost one after the other: the process stands still again and again."""

    poll: float = 10.0
    """The longest time for one call of a poll; also at most a third of the lease. Then the worker reports an error."""
    read_ahead: float = 0.5
    """How long rows that were read ahead may be claimed. After that, another worker may have claimed them."""
    intervals_for_others: int = 4
    """The poll intervals in which other workers may claim an event that has no handler here."""
    late_settle: float = 2.0
    """How long the outcome of a claim is written at least, also after the lease: nobody else may have claimed yet."""
    announcement: float = 1.0
    """How long an announcement of a worker is tried."""
    window_hold: float = 10.0
    """How long a recovery may take for a part of a window. Then another worker starts the recovery over."""
    far_leases: float = 3600.0
    """How often recovery reads leases that no worker can have, such as a lease in nanoseconds."""

    holds: float = 1.0
    """How long a read of the holds is tried. A worker then goes by the holds that it read before."""
    held_grace: float = 10.0
    """Within this time after the end of a hold, a worker that does not know of the end may still hold events."""
    held_sweep: float = 300.0
    """How often recovery looks for events that are still HELD though no type is held any more."""
    held_longest: float = 3600.0
    """How often it looks for them while another type is held, which costs a read of every HELD event."""
    held_part: float = 10.0
    """How long one recovery resumes HELD events. The next one goes on."""

    operator: float = 10.0
    """How long one call is tried that lists, counts or redrives dead letters, or moves events to shards."""
    claim_without_read: float = 1.0
    """How long after its emit began an event with an ordering key is claimed on emit without a read of the event."""
    wait_for_emit: float = 2.0
    """How long a discard of an event waits that no queue lists, before it looks again; more than `claim_without_read`.

    After that time the emit has listed the event, or will read it before it claims it."""
    busy_line: float = 0.1
    """How long a redrive waits for a worker that has failed an event, and is about to take it from its line."""

    def __post_init__(self) -> None:
        if self.wait_for_emit <= self.claim_without_read:
            raise ValueError("wait_for_emit must be longer than claim_without_read")
