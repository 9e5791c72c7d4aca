"""Hypothesis strategies for payloads, and what they come back as."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

text = st.text(max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or 1e-130 <= abs(x) < 1e126)
integers = st.integers(-(10**38) + 1, 10**38 - 1)
numbers = integers | floats
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
# Anything at all: storable, or to be refused.
anything = st.recursive(
    scalars | sets | st.floats() | st.decimals() | st.just(set()) | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=10,
)


def same(sent: Any, received: Any) -> bool:
    """Equality that keeps kinds apart: True is not 1, and b'' not ''; a Decimal may come back as a float."""
    if isinstance(sent, Decimal):
        return isinstance(received, (int, float, Decimal)) and Decimal(str(received)) == sent
    if isinstance(sent, dict):
        return (
            isinstance(received, dict)
            and sent.keys() == received.keys()
            and all(same(value, received[key]) for key, value in sent.items())
        )
    if isinstance(sent, list):
        return isinstance(received, list) and len(sent) == len(received) and all(map(same, sent, received))
    if isinstance(sent, bool) or isinstance(received, bool):
        return sent is received
    if isinstance(sent, float):
        return isinstance(received, (int, float)) and math.isclose(sent, received, rel_tol=0, abs_tol=0)
    if isinstance(sent, set):
        return isinstance(received, set) and sent == received
    return type(sent) is type(received) and bool(sent == received)
