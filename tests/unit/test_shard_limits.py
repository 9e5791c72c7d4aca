"""The simulation of partition limits: what is beyond them is refused, repeated, and nothing is lost."""

from __future__ import annotations

from benchmarks.partitions import PER_SHARD, simulate


def test_outbox_at_the_limit_of_its_partition_loses_nothing_and_settles_in_time() -> None:
    run = simulate(1, seconds=0.6)
    assert run.throttled > 0
    assert (run.lost, run.leases_lost, run.settles_failed, run.handled_twice) == (0, 0, 0, 0)
    assert run.events >= 0.6 * PER_SHARD
    # The burst of the first moment included.
    assert run.per_second <= 1.2 * PER_SHARD
