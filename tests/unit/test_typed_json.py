"""A payload that is shown, edited and stored again loses nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox.typed_json import from_json, to_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**37), 10**37)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=5)
    | st.text()
    | st.binary(max_size=20)
)
keys = st.text(max_size=5) | st.sampled_from(["$set", "$bytes", "$decimal", "$$set"])
sets = st.sets(st.integers(), min_size=1) | st.sets(st.text(), min_size=1) | st.sets(st.binary(max_size=4), min_size=1)


def lists_and_dicts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)


payloads = st.recursive(scalars | sets, lists_and_dicts, max_leaves=20)


@given(payloads)
def test_value_comes_back_equal(value: Any) -> None:
    assert from_json(to_json(value, indent=2)) == value


@given(payloads)
def test_value_comes_back_after_a_browser_changed_its_line_breaks(value: Any) -> None:
    assert from_json(to_json(value, indent=2).replace("\n", "\r\n")) == value


@given(st.recursive(scalars.filter(lambda value: not isinstance(value, float)) | sets, lists_and_dicts, max_leaves=20))
def test_value_without_floats_comes_back_as_decimals(value: Any) -> None:
    assert from_json(to_json(value, decimals=True), decimals=True) == value


def test_decimals_are_json_numbers_where_a_float_has_their_digits() -> None:
    shown = '[1.5, {"$decimal": "0.1234567890123456789"}]'
    assert to_json([Decimal("1.5"), Decimal("0.1234567890123456789")], decimals=True) == shown


@given(payloads)
def test_types_come_back(value: Any) -> None:
    def types_of(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: types_of(inner) for key, inner in value.items()}
        return [types_of(inner) for inner in value] if isinstance(value, list) else type(value)

    assert types_of(from_json(to_json(value))) == types_of(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("NaN", "NaN cannot be stored"),
        ("-Infinity", "cannot be stored"),
        ('{"$decimal": 1.1}', "must be a string"),
        ('{"$decimal": "one"}', "decimal"),
        ('{"$bytes": "?"}', "bytes"),
        ('{"$bytes": 5}', "bytes"),
        ('{"$set": "abc"}', "must be a list"),
        ('{"$set": [[1]]}', "set"),
        ("[" * 100_000, "too deep"),
        ("1" * 5_000, "digits"),
    ],
)
def test_text_that_is_not_a_value_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_numbers_are_written_with_all_digits() -> None:
    assert to_json([10**37 + 1, Decimal("1.10")]) == '[10000000000000000000000000000000000001, {"$decimal": "1.10"}]'


@pytest.mark.parametrize(
    "value",
    [{"$set": [1, 2]}, {"$bytes": "aGk="}, {"$decimal": "1"}, {"$$set": 1}, {"$set": {"$set": [1]}}, {"$set": {1, 2}}],
)
def test_dict_that_looks_like_a_typed_value_stays_a_dict(value: Any) -> None:
    assert from_json(to_json(value)) == value
