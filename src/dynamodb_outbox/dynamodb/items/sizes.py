"""The size of a stored value in bytes, as DynamoDB counts it.

The rule: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamodb_outbox.dynamodb.items.numbers import number_size
from dynamodb_outbox.dynamodb.items.values import COLLECTION_BYTES, MEMBER_BYTES, text_size


def size_of(value: Mapping[str, Any]) -> int:
    """Count the bytes of a low-level value, such as `{"S": "text"}`. Raises `Unstorable` for invalid text."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            size = text_size(content)
        case "N":
            size = number_size(content)
        case "B":
            size = len(content)
        case "M":
            members = sum(text_size(name) + size_of(member) + MEMBER_BYTES for name, member in content.items())
            size = COLLECTION_BYTES + members
        case "L":
            size = COLLECTION_BYTES + sum(size_of(member) + MEMBER_BYTES for member in content)
        case "SS":
            size = sum(map(text_size, content))
        case "NS":
            size = sum(map(number_size, content))
        case "BS":
            size = sum(map(len, content))
        case _:
            size = 1
    return size
