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


@dataclass(frozen=True, slots=True)
class Fenced(Refused):
    """The check of the token was false: another worker has claimed the item since."""


WriteResult = Applied | Refused | StorageError


def is_marked(mark: WriteResult | None) -> bool:
    """Tell whether an event may leave its queue, by the result of its mark. Refused: it was marked before."""
    return isinstance(mark, (Applied, Refused)) and not isinstance(mark, Fenced)
