"""What became of a conditional write."""

from __future__ import annotations

from dataclasses import dataclass

from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.errors import StorageError


@dataclass(frozen=True, slots=True)
class Applied:
    """The write took place; `item` is the new item, if asked for."""

    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition was false. `repeated`: an earlier attempt of the same write may have been applied."""

    repeated: bool = False


WriteResult = Applied | Refused | StorageError
