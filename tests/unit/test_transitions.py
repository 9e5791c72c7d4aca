"""The table of transitions."""

from __future__ import annotations

from dynamodb_outbox.dynamodb.conditional.probe import MAX_STATEMENTS
from dynamodb_outbox.dynamodb.conditional.transitions import BATCHED


def test_probe_has_room_for_every_statement() -> None:
    # It is one request, and DynamoDB takes 25 statements in one.
    assert len(BATCHED) <= MAX_STATEMENTS <= 25
