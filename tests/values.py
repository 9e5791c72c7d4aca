"""Hypothesis strategies for payloads, and what they come back as."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

text = st.text(max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or 1e-130 <= abs(x) < 1e126)
integers = st.integers(-(10**38) + 1, 10**38 - 1)
numbers = integers | floats
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20).filter(
    lambda x: x == 0 or (x.adjusted() >= -100 and len(x.as_tuple().digits) <= 38)
)
scalars = st.none() | st.booleans() | numbers | text | st.binary(max_size=20)
sets = (
    st.sets(text, min_size=1, max_size=4)
    | st.sets(st.binary(max_size=8), min_size=1, max_size=4)
    | st.sets(integers, min_size=1, max_size=4)
    | st.sets(floats, min_size=1, max_size=4)
)
keys = st.text(min_size=1, max_size=10)
payloads = st.recursive(
    scalars | sets,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
money = st.decimals(min_value=-(10**9), max_value=10**9, places=2)
"""Decimals that floats can hold, as prices are."""
payloads_with_money = st.recursive(
    scalars | sets | money | st.sets(money, min_size=1, max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
payloads_with_decimals = st.recursive(
    scalars | sets | decimals | st.sets(decimals, min_size=1, max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
# Anything at all: storable, or to be refused.
anything = st.recursive(
    scalars | sets | st.floats() | st.decimals() | st.just(set()) | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=10,
)


def number_back(sent: float | Decimal, numbers: str) -> int | float | Decimal:
    """What a number that was stored comes back as: an int if it is whole, else by the mode."""
    exact = Decimal(repr(sent)) if isinstance(sent, float) else Decimal(sent)
    if exact == exact.to_integral_value() and exact.adjusted() < 38:
        return int(sent)
    return float(exact) if numbers == "native" else exact


def same(sent: Any, received: Any, numbers: str = "native") -> bool:
    """Equality that keeps kinds apart: True is not 1, 1.0 not 1, and b'' not ''; for numbers as the mode has them."""
    if isinstance(sent, dict):
        return (
            isinstance(received, dict)
            and sent.keys() == received.keys()
            and all(same(value, received[key], numbers) for key, value in sent.items())
        )
    if isinstance(sent, list):
        return (
            isinstance(received, list)
            and len(sent) == len(received)
            and all(same(*pair, numbers) for pair in zip(sent, received, strict=True))
        )
    if isinstance(sent, (int, float, Decimal)) and not isinstance(sent, bool):
        expected = number_back(sent, numbers)
        return type(received) is type(expected) and bool(expected == received)
    if isinstance(sent, set) and all(isinstance(member, (int, float, Decimal)) for member in sent):
        expected_members = [number_back(member, numbers) for member in sent]
        return isinstance(received, set) and kinds(received) == kinds(expected_members)
    return type(sent) is type(received) and bool(sent == received)


def kinds(members: Iterable[Any]) -> set[tuple[type, Any]]:
    """The members with their types, as 1 and 1.0 are one member of a set."""
    return {(type(member), member) for member in members}
