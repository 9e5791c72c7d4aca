"""The window item, and the writes to it.

The id of the item is `dynamodb-outbox-window/<region>/<name>`. The item is in the index, in a separate partition, with
the end of its lease as the sort key. So every worker finds a window whose lease ran out, and no query for events does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import Item, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards, shard_key
from dynamodb_outbox.event_ids import SEED_BYTES, numbered_id

WINDOW_IDS: Final = "dynamodb-outbox-window/"
"""The prefix of the ids of window items."""
WINDOW: Final = "WINDOW"
"""The status of a window item, and so its partition of the index."""
VOID: Final = "VOID"
"""The status of a tombstone, which keeps an event from being stored after its window was recovered. Also the status of
a recovered window item."""
VOID_SECONDS: Final = 86_400.0
"""How long tombstones are kept, if the table has a time to live. AWS refuses a request after 15 minutes."""
LARGEST_SPAN: Final = 65_536
"""A window item with more numbers than this is not of a worker, and would be expensive to recover."""
_LARGEST_NUMBER: Final = 2**63
FIRST_VERSION: Final = "0"
"""The version of a window that was not renewed yet."""
WINDOW_ATTRIBUTE: Final = "window"
"""The attribute of an event with the name of its window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindow:
    """A window as its item has it: the numbers from `start` up to, but not including, `end`."""

    id: str
    token: str
    seed: bytes
    start: int
    end: int

    @property
    def name(self) -> str:
        """The name, which the events of the window have in their attribute `window`."""
        return self.id.rpartition("/")[2]

    def id_of(self, number: int) -> str:
        """Return the id of an event of the window."""
        return numbered_id(self.seed, number)


def read_window(item: Mapping[str, Any]) -> StoredWindow | None:
    """Read a window item; None if an attribute is missing or cannot be right: another program has written it."""
    try:
        window = StoredWindow(
            id=item["id"]["S"],
            token=item["claimToken"]["S"],
            seed=bytes(item["seed"]["B"]),
            start=int(item["windowFrom"]["N"]),
            end=int(item["windowTo"]["N"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    is_possible = 0 <= window.start <= window.end <= window.start + LARGEST_SPAN and window.end <= _LARGEST_NUMBER
    return window if is_possible and len(window.seed) == SEED_BYTES else None


def window_id(name: str, *, region: str) -> str:
    """Return the id of a window item."""
    return f"{WINDOW_IDS}{region}/{name}"


def is_of_region(item_id: str, region: str) -> bool:
    """Tell whether a window is of this Region. In a global table, another Region's workers recover its windows."""
    return item_id.startswith(f"{WINDOW_IDS}{region}/")


def window_partition(shards: Shards) -> str:
    """Return the value of the index's partition key for window items."""
    return WINDOW if shards.count == 1 else shard_key(WINDOW, 0)


def new_window(
    item_id: str, *, token: str, seed: bytes, start: int, end: int, now: float, deadline: float, shards: Shards
) -> Item:
    """Make the item of a new window. Its write needs the condition that no item has its id."""
    item: Item = {
        "id": {"S": item_id},
        "status": {"S": WINDOW},
        "claimToken": {"S": token},
        "seed": {"B": seed},
        "windowFrom": {"N": str(start)},
        "windowTo": {"N": str(end)},
        "version": {"S": FIRST_VERSION},
        "startedOn": millis(now),
        "gsiSortKey": millis(deadline),
    }
    if shards.count > 1:
        item[SHARD_ATTRIBUTE] = {"S": window_partition(shards)}
    return item


# The updates of a window item, as arguments of UpdateItem without the table name.

_NAMES: Final = {"#status": "status", "#from": "windowFrom", "#to": "windowTo", "#version": "version"}


def extend(
    item_id: str, *, token: str, start: int, end: int, version: str, earlier: Sequence[str], deadline: float
) -> dict[str, Any]:
    """Renew the lease, and move both ends. Each write has a new random version, and names those that it may follow.

    So a write that comes late is refused, and so is the write of a copy of this process, as a virtual machine that was
    started twice from one image has: the copy knows the versions of the image only.
    """
    condition, versions = _follows((version, *earlier))
    return {
        "Key": {"id": {"S": item_id}},
        "UpdateExpression": "SET #from = :from, #to = :to, #version = :version0, gsiSortKey = :deadline",
        "ConditionExpression": f"claimToken = :token AND {condition} AND #status = :window",
        "ExpressionAttributeNames": _NAMES,
        "ExpressionAttributeValues": {
            ":from": {"N": str(start)},
            ":to": {"N": str(end)},
            ":deadline": millis(deadline),
            ":token": {"S": token},
            ":window": {"S": WINDOW},
            **versions,
        },
    }


def take(item_id: str, *, seen: Mapping[str, Any], token: str, deadline: float) -> dict[str, Any]:
    """Take a window whose lease ran out, so that its worker can neither renew nor move it; returns the new item."""
    return {
        "Key": {"id": {"S": item_id}},
        "UpdateExpression": "SET claimToken = :token, gsiSortKey = :deadline",
        "ConditionExpression": "#status = :window AND gsiSortKey = :seen",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {
            ":token": {"S": token},
            ":deadline": millis(deadline),
            ":seen": dict(seen),
            ":window": {"S": WINDOW},
        },
        "ReturnValues": "ALL_NEW",
    }


def close(item_id: str, *, token: str, now: float) -> dict[str, Any]:
    """End a window whose events are all recovered. It is not deleted: a late write that opens it must be refused."""
    return {
        "Key": {"id": {"S": item_id}},
        "UpdateExpression": f"SET #status = :void, expireAt = :expiry REMOVE gsiSortKey, {SHARD_ATTRIBUTE}",
        "ConditionExpression": "claimToken = :token AND #status = :window",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {
            ":token": {"S": token},
            ":expiry": {"N": str(int(now + VOID_SECONDS))},
            ":window": {"S": WINDOW},
            ":void": {"S": VOID},
        },
    }


def delete(item_id: str, *, token: str, versions: Sequence[str]) -> dict[str, Any]:
    """Delete the window of a worker that has no open event: arguments of DeleteItem."""
    condition, values = _follows(versions)
    return {
        "Key": {"id": {"S": item_id}},
        "ConditionExpression": f"claimToken = :token AND {condition}",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":token": {"S": token}, **values},
    }


def _follows(versions: Sequence[str]) -> tuple[str, dict[str, AttributeValue]]:
    """Return the condition that the stored version is one of these, and its values."""
    values = {f":version{number}": {"S": each} for number, each in enumerate(versions)}
    return f"({' OR '.join(f'#version = {name}' for name in values)})", values
