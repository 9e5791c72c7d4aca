"""Which shard an event is in, and in what order a worker looks at shards."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from dynamodb_outbox.dynamodb.schema.shards import Rotation, Shards


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


def test_each_poll_starts_one_shard_later_and_leaves_no_shard_out() -> None:
    rotation = Rotation(3)
    assert [tuple(rotation.order()) for _ in range(4)] == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]


def test_workers_start_at_different_shards() -> None:
    assert tuple(Rotation(4, start=0.6).order()) == (2, 3, 0, 1)
    assert tuple(Rotation(4, start=0.999).order()) == (3, 0, 1, 2)


def test_one_shard_is_polled_every_time() -> None:
    rotation = Rotation(1, start=0.7)
    assert [tuple(rotation.order()) for _ in range(3)] == [(0,)] * 3
