"""The items of a TransactWriteItems: made from the plain or low-level values of a user, with their sizes.

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.sizes import size_of
from dynamodb_outbox.dynamodb.items.unstorable import Unstorable
from dynamodb_outbox.dynamodb.items.values import AttributeValue, encode, text_size
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH
from dynamodb_outbox.errors import ConfigurationError, TransactionTooLargeError, UnstorableValueError
from dynamodb_outbox.transaction import TransactionWrite
from dynamodb_outbox.wording import shown

MAX_ITEMS: Final = 100
MAX_BYTES: Final = 4 * 1024 * 1024

_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "S": str,
    "N": str,
    "B": (bytes, bytearray),
    "BOOL": bool,
    "NULL": bool,
    "M": Mapping,
    "L": (list, tuple),
    "SS": (list, tuple, set, frozenset),
    "NS": (list, tuple, set, frozenset),
    "BS": (list, tuple, set, frozenset),
}
_OF_VALUES: Final = ("Item", "Key", "ExpressionAttributeValues")


def transact_item_of(write: TransactionWrite) -> tuple[dict[str, Any], int]:
    """Make the transact item of a write of the user; return it with its size in bytes.

    Raises `UnstorableValueError` with the path of the value, `ConfigurationError` where two forms are mixed.
    """
    arguments: dict[str, Any] = dict(write.arguments)
    size = 0
    for name, value in arguments.items():
        if name in _OF_VALUES:
            arguments[name], part = _encode_members(f"{write.operation} {name}", value)
            size += part
        elif isinstance(value, str):
            size += text_size(value)
    return {write.operation: arguments}, size


def most_items_for(events: int) -> int:
    """Count the items that a queue takes at most, to append some events: itself, and a page for each ten ids."""
    return 1 - (-events // WIDTH)


def check_size(
    writes: Sequence[TransactionWrite], *, events: Sequence[int], records: int, queues: tuple[int, int] = (0, 0)
) -> list[dict[str, Any]]:
    """Make the transact items of the writes; `events` are the sizes of the items of the events.

    `queues` are the number and the size of the items of the queues of ordering keys.

    Raises `TransactionTooLargeError` for more than DynamoDB takes, and what `transact_item_of` raises.
    """
    encoded = [transact_item_of(write) for write in writes]
    size = sum(events) + sum(part for _, part in encoded) + queues[1]
    if len(encoded) + len(events) + records + queues[0] > MAX_ITEMS or size > MAX_BYTES:
        raise TransactionTooLargeError(
            writes=len(encoded),
            events=len(events),
            records=records,
            queues=queues[0],
            size=size,
            max_items=MAX_ITEMS,
            max_size=MAX_BYTES,
        )
    return [transact_item for transact_item, _ in encoded]


def _encode_members(root: str, members: Mapping[str, Any]) -> tuple[dict[str, AttributeValue], int]:
    low_level = [name for name, value in members.items() if _is_low_level(value)]
    if low_level and len(low_level) < len(members):
        plain = next(name for name in members if name not in low_level)
        raise ConfigurationError(
            f"{root}: {shown(low_level[0])} is a low-level value and {shown(plain)} a plain one; write all of them "
            "plain, such as 'text' or 5, or all of them low-level, such as {'S': 'text'} or {'N': '5'} (a map that "
            "only looks like one: {'M': {'S': {'S': 'text'}}})"
        )
    try:
        if low_level and all(isinstance(name, str) for name in members):
            return dict(members), sum(text_size(name) + size_of(value) for name, value in members.items())
        # The outbox reads nothing back from the tables of the user, so every Decimal may be stored.
        encoded, size = encode(dict(members), 0, numbers="decimal")
    except Unstorable as error:
        raise UnstorableValueError(path=error.path(root), reason=error.reason) from None
    fields: dict[str, AttributeValue] = encoded["M"]
    return fields, size


def _is_low_level(value: Any) -> bool:
    """Tell whether a value is meant, and well formed, as the low-level API has it."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, content),) = value.items()
    members: Any = content
    if kind not in _KINDS or not isinstance(content, _KINDS[kind]):
        return False
    if kind == "M":
        return all(isinstance(name, str) and _is_low_level(member) for name, member in members.items())
    if kind == "L":
        return all(_is_low_level(member) for member in members)
    member_type = {"SS": str, "NS": str, "BS": bytes}.get(kind)
    return member_type is None or all(isinstance(member, member_type) for member in members)
