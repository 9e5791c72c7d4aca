"""The result of a conditional write: applied, refused, or an error."""

from __future__ import annotations

from dataclasses import dataclass

from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.errors import StorageError


@dataclass(frozen=True, slots=True)
class Applied:
    """The write was applied. `item` is the new item, if the caller asked for it."""

    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition was false. `repeated`: an earlier attempt of the same write may have been applied."""

    repeated: bool = False


WriteResult = Applied | Refused | StorageError
