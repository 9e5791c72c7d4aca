"""Items that are not events: the error says which attribute is wrong, and shows nothing that is stored."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from dynamodb_outbox import StoredEventError
from dynamodb_outbox.dynamodb.items.codec import decode_claim, decode_event

SECRET = "4711-secret"
LONG = SECRET * 30_000

UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({"type": None}, "the attribute 'type' is missing"),
    "type of another kind": ({"type": {"N": SECRET}}, "the attribute 'type' is not of the type S"),
    "empty type": ({"type": {"S": ""}}, "type cannot be"),
    "payload of another kind": ({"payload": {"S": LONG}}, "the attribute 'payload' is not of the type M"),
    "payload of no kind": ({"payload": {"M": {"x": {LONG: LONG}}}}, "KeyError"),
    "payload with an odd number": ({"payload": {"M": {"x": {"N": LONG}}}}, "payload or metadata"),
    "metadata of another kind": ({"metadata": {"S": LONG}}, "the attribute 'metadata' is not of the type M"),
    "metadata with an odd number": ({"metadata": {"M": {"x": {"N": LONG}}}}, "payload or metadata"),
    "occurredAt is no time": ({"occurredAt": {"S": LONG}}, "'occurredAt' is not a time in ISO 8601"),
}


@pytest.mark.parametrize(("odd", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_error_of_an_item_names_its_attribute_and_shows_nothing_that_is_stored(odd: dict[str, Any], said: str) -> None:
    item = {
        "id": {"S": "e"},
        "type": {"S": "order.placed"},
        "payload": {"M": {}},
        "occurredAt": {"S": "2024-01-02T03:04:05Z"},
    } | odd
    item = {name: value for name, value in item.items() if value is not None}
    with pytest.raises(StoredEventError) as raised:
        decode_event(item, numbers="native")
    text = "".join(traceback.format_exception_only(raised.value))
    assert said in raised.value.reason
    assert len(raised.value.reason) <= 200
    assert SECRET not in text
    # A log with the traceback shows the chain of errors.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_error_of_an_item_is_short_whatever_the_id() -> None:
    with pytest.raises(StoredEventError) as raised:
        decode_event(
            {
                "id": {"S": "dynamodb-outbox" + "x" * 2000},
                "type": {"S": "order.placed"},
                "payload": {"M": {}},
                "occurredAt": TIME,
            },
            numbers="native",
        )
    assert len(raised.value.reason) <= 200


TIME = {"S": "2024-01-02T03:04:05Z"}


@pytest.mark.parametrize("odd", [None, {"NULL": True}, {"S": "soon"}, {"N": "soon"}, {"N": "-1"}, {"N": "1e120"}])
def test_claim_has_no_due_time_where_the_stored_time_is_odd(odd: dict[str, Any] | None) -> None:
    item = {
        "id": {"S": "e"},
        "type": {"S": "order.placed"},
        "payload": {"M": {}},
        "occurredAt": {"S": "2024-01-02T03:04:05Z"},
        "claimToken": {"S": "token"},
        "gsiSortKey": {"N": "1790000000000"},
    }
    started = {} if odd is None else {"startedOn": odd}
    assert decode_claim(item | started, numbers="native").due_at is None
    assert decode_claim(item | {"startedOn": {"N": "1790000000000"}}, numbers="native").due_at == 1_790_000_000.0
