"""Invariant P for emits with an ordering key: how long they may wait after their own answers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from reliability.history import EmitAcknowledged, ItemDeleted, StoredQueue, StoringRequest
from tests.reliability.line_builder import KEY, LineBuilder


def test_emit_may_wait_until_the_queue_that_it_claimed_is_free_again() -> None:
    asked, token = LineBuilder().ask(0.5, "a", worker="w1").put(0.51, "a", "w1"), "t"
    request = StoringRequest(at=0.6, began_at=0.5, operation="append", event_ids=("a",), worker="w1")
    made = StoredQueue(key=KEY, status="PROCESSING", ids=("a",), sort_key=10_500, token=token)
    asked.change(0.55, made, "w1").add(request, EmitAcknowledged(at=0.8, event_id="a", worker="w1"))
    waited = "after its own answer"
    assert waited in str(asked.violations())
    for after in (None, replace(made, status="PENDING"), replace(made, ids=("b",), token="another")):
        story = deepcopy(asked).change(0.75, after, "w1")
        assert waited not in str(story.violations())
        assert waited in str(deepcopy(asked).change(0.75, after, "w2").violations())


@pytest.mark.parametrize(("error", "is_deleted"), [("ExpiredTokenException", False), ("", True), ("", False)])
def test_emit_that_cannot_read_its_event_may_wait_until_its_queue_is_free(error: str, *, is_deleted: bool) -> None:
    story = LineBuilder().ask(0.5, "a", worker="w1").put(0.51, "a", "w1").append(0.52, "a", worker="w1")
    for operation, began_at, failed in (("append", 0.5, ""), ("batch_get_item", 0.6, error)):
        request = StoringRequest(
            at=began_at + 0.1, began_at=began_at, operation=operation, event_ids=("a",), worker="w1", error=failed
        )
        story.add(request)
    if is_deleted:
        story.add(ItemDeleted(at=0.65, event_id="a"))
    story.add(EmitAcknowledged(at=0.9, event_id="a", worker="w1"))
    assert ("after its own answer" in str(story.violations())) is not (bool(error) or is_deleted)


def test_emit_whose_event_is_done_may_wait_for_a_probe_before_it_frees_the_queue() -> None:
    story = LineBuilder().ask(0.5, "a", worker="w1").put(0.51, "a", "w1").append(0.52, "a", worker="w1")
    for operation, began_at, event_id in (("append", 0.5, "a"), ("batch_get_item", 0.9, "a"), ("probe", 1.0, "probe")):
        at = began_at + 0.1
        story.add(StoringRequest(at=at, began_at=began_at, operation=operation, event_ids=(event_id,), worker="w1"))
    story.add(EmitAcknowledged(at=1.3, event_id="a", worker="w1"))
    assert "after its own answer" in str(deepcopy(story).violations())
    assert "after its own answer" not in str(story.mark(0.8, "a", "w2").violations())
