"""Which shard an event is in, and in what order a worker looks at shards."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from dynamodb_outbox.dynamodb.schema.shards import MAX_EXPECTED, Rotation, Shards


def looks(rotation: Rotation, times: list[float], *, busy: frozenset[int] = frozenset()) -> list[list[int]]:
    """Look at each of the times; the shards that were looked at."""
    seen: list[list[int]] = []
    for now in times:
        order = list(rotation.order(now=now, clock=now))
        seen.append(order)
        for shard in order:
            rotation.saw(shard, empty=shard not in busy, now=now)
    return seen


def test_shard_follows_from_the_id_and_is_even() -> None:
    shards = Shards(16)
    ids = [str(uuid4()) for _ in range(4_800)]
    keys = Counter(shards.key("PENDING", event_id)["S"] for event_id in ids)
    assert set(keys) == {f"PENDING#{shard}" for shard in range(16)}
    # 300 each, give or take five standard deviations.
    assert max(abs(count - 300) for count in keys.values()) < 5 * 17
    assert [shards.key("FAILED", event_id) for event_id in ids] == [shards.key("FAILED", event_id) for event_id in ids]


def test_one_shard_leaves_items_as_they_are() -> None:
    item = {"id": {"S": "e"}, "status": {"S": "PENDING"}}
    assert Shards(1).placed(item) is item
    assert Shards(3).placed(item)["statusShard"]["S"].startswith("PENDING#")


def test_each_poll_starts_with_the_next_shard() -> None:
    rotation = Rotation(3, interval=1.0)
    assert looks(rotation, [0, 0, 0, 0], busy=frozenset({0, 1, 2})) == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
    assert Rotation(4, interval=1.0, start=0.6).order(now=0, clock=0) == [2, 3, 0, 1]
    assert Rotation(4, interval=1.0, start=0.999).order(now=0, clock=0) == [3, 0, 1, 2]


def test_quiet_shards_are_polled_every_fourth_interval_and_busy_ones_always() -> None:
    rotation = Rotation(8, interval=1.0)
    seen = Counter(
        shard for order in looks(rotation, [float(n) for n in range(100)], busy=frozenset({5})) for shard in order
    )
    assert seen[5] == 100
    assert all(24 <= seen[shard] <= 30 for shard in range(8) if shard != 5)


def test_no_shard_is_left_unseen_for_longer_than_four_intervals() -> None:
    rotation = Rotation(4, interval=0.5)
    times = [n * 0.5 for n in range(200)]
    last = dict.fromkeys(range(4), 0.0)
    for now, order in zip(times, looks(rotation, times), strict=True):
        for shard in order:
            assert now - last[shard] <= 4 * 0.5
            last[shard] = now


def test_expected_event_wakes_every_shard_at_its_time() -> None:
    rotation = Rotation(4, interval=1.0)
    rotation.expect(20.0, clock=0.0)
    seen = looks(rotation, [float(n) for n in range(30)])
    assert min(len(order) for order in seen[8:20]) < 4
    assert [len(order) for order in seen[20:23]] == [4, 4, 4]
    assert min(len(order) for order in seen[23:]) < 4


def test_many_expectations_of_one_time_are_kept_once() -> None:
    rotation = Rotation(2, interval=1.0)
    for n in range(1_000):
        rotation.expect(5.0 + n % 2, clock=0.0)
    assert len(rotation._expected) == 2


def test_expectations_that_have_come_are_not_kept_without_a_poll() -> None:
    rotation = Rotation(4, interval=1.0)
    for n in range(1_000):
        rotation.expect(n + 5.0, clock=float(n))
        rotation.expect(float(n), clock=float(n))
    assert len(rotation._expected) == len(rotation._known) == 5
    assert len(rotation.order(now=2_000.0, clock=2_000.0)) == 4
    for n in range(MAX_EXPECTED + 10):
        rotation.expect(3_000.0 + n, clock=2_000.0)
    assert len(rotation._expected) == len(rotation._known) == MAX_EXPECTED


def test_one_shard_is_always_polled() -> None:
    assert looks(Rotation(1, interval=1.0), [0.0] * 20) == [[0]] * 20
