"""The simulation of partition limits: what is beyond them is refused, repeated, and nothing is lost."""

from __future__ import annotations

import pytest

from benchmarks.partitions import OFFERED, PER_SHARD, simulate


def test_outbox_at_the_limit_of_its_partition_loses_nothing_and_settles_in_time() -> None:
    run = simulate(1, seconds=0.6)
    assert run.throttled > 0
    assert (run.lost, run.leases_lost, run.settles_failed, run.handled_twice) == (0, 0, 0, 0)
    assert run.events >= 0.6 * PER_SHARD
    # The burst of the first moment included.
    assert run.per_second <= 1.2 * PER_SHARD


@pytest.mark.parametrize("shards", [1, 8])
def test_events_in_windows_are_not_limited_by_the_partitions_of_the_index(shards: int) -> None:
    run = simulate(shards, seconds=0.8, window=True)
    assert (run.lost, run.leases_lost, run.settles_failed, run.handled_twice) == (0, 0, 0, 0)
    assert run.per_second >= 0.9 * OFFERED


def test_events_in_the_index_are_limited_also_where_they_are_handled() -> None:
    run = simulate(1, seconds=0.8, window=False)
    assert run.throttled > 0
    assert run.lost == 0
    assert run.per_second <= 1.2 * PER_SHARD
