"""Attribute values in the simulated backend: their order, arithmetic and size."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

AttributeValue = Mapping[str, Any]
Item = Mapping[str, AttributeValue]

KILOBYTE: Final = 1024
_SIZED: Final = frozenset({"S", "B", "L", "M", "SS", "NS", "BS"})
"""The types of values that the function `size` takes."""


def number(text: str) -> int | Decimal:
    """Read a number."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def add_numbers(left: AttributeValue, right: AttributeValue) -> AttributeValue:
    """Add two numbers. Raises `KeyError` if a value is not a number."""
    return {"N": str(number(left["N"]) + number(right["N"]))}


def are_equal(left: AttributeValue, right: AttributeValue) -> bool:
    """Compare two values; values of different types are never equal."""
    if "N" in left and "N" in right:
        return number(left["N"]) == number(right["N"])
    if "SS" in left and "SS" in right:
        return set(left["SS"]) == set(right["SS"])
    if "L" in left and "L" in right:
        return len(left["L"]) == len(right["L"]) and all(map(are_equal, left["L"], right["L"]))
    return left == right


def compare(left: AttributeValue, right: AttributeValue) -> int | None:
    """Order two values: negative, 0 or positive; None where they have no order."""
    if "N" in left and "N" in right:
        a, b = number(left["N"]), number(right["N"])
        return (a > b) - (a < b)
    if "S" in left and "S" in right:
        x, y = str(left["S"]).encode(), str(right["S"]).encode()
        return (x > y) - (x < y)
    return None


def contains(container: AttributeValue, member: AttributeValue) -> bool:
    """Return whether a set or a list has a member, or a text contains a text."""
    if "L" in container:
        return any(are_equal(member, other) for other in container["L"])
    if "SS" in container and "S" in member:
        return any(member["S"] == other for other in container["SS"])
    if "S" in container and "S" in member:
        return str(member["S"]) in str(container["S"])
    return False


def size_of(value: AttributeValue) -> int | None:
    """Count what the function `size` counts; None for values that have no size."""
    ((kind, content),) = value.items()
    return len(content) if kind in _SIZED else None


def item_size(item: Item) -> int:
    """Count the bytes of an item.

    See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    size = 0
    for name, value in item.items():
        size += text_size(name) + value_size(value)
    return size


def text_size(text: str) -> int:
    """Count the bytes of a text."""
    return len(text) if text.isascii() else len(text.encode())


def value_size(value: AttributeValue) -> int:
    """Count the bytes of a value."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            size = text_size(content)
        case "N":
            # Two digits to a byte, and one byte for the rest.
            size = (len(content.lstrip("-").replace(".", "")) + 1) // 2 + 1
        case "BOOL" | "NULL":
            size = 1
        case "M":
            size = 3 + sum(text_size(name) + value_size(member) + 1 for name, member in content.items())
        case "L":
            size = 3 + sum(value_size(member) + 1 for member in content)
        case "SS" | "NS" | "BS":
            size = sum(len(member) for member in content)
        case _:
            size = len(content)
    return size


def units(size: int) -> int:
    """Count the write units of a number of bytes: one for each started kilobyte."""
    return max(-(-size // KILOBYTE), 1)
