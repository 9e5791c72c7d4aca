"""Items as PartiQL `INSERT` statements. DynamoDB refuses an `INSERT` whose id exists, with the code `DuplicateItem`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dynamodb_outbox.dynamodb.items.codec import Item


def insert_statement(item: Item, *, table_name: str) -> dict[str, Any]:
    """Render one statement of a `BatchExecuteStatement` that stores an item, if no item has its id."""
    return {"Statement": _text(tuple(item), table_name), "Parameters": list(item.values())}


@lru_cache(maxsize=256)
def _text(names: tuple[str, ...], table_name: str) -> str:
    # The outbox chooses the names, so that none of them has a quote in it.
    members = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table_name}" VALUE {{{members}}}'
