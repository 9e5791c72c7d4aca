"""What a reply must hold to be believed.

The SDK takes a body that it cannot read for an empty reply. So each reply that says more than "done" is read here; one
that cannot be read tells nothing of what was applied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Read = Callable[[Any], Any]
"""Reads a reply, or raises whatever comes of one that is none."""


class UnreadableResponseError(Exception):
    """A reply that is none: the request may have been applied."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"its reply cannot be read ({type(cause).__name__}: {cause})")


def read_rows(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a page of the index."""
    for row in reply["Items"]:
        _text(row["id"]["S"])
        _text(row["gsiSortKey"]["N"])
        float(row["gsiSortKey"]["N"])
    _mapping(reply.get("LastEvaluatedKey", {}))
    return reply


def read_count(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a page of the index that is only counted."""
    if not isinstance(reply["Count"], int):
        raise TypeError("the count is no number")
    _mapping(reply.get("LastEvaluatedKey", {}))
    return reply


def responses_to(count: int) -> Read:
    """Read the responses to so many statements."""

    def read(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        responses = reply["Responses"]
        if len(responses) != count:
            raise ValueError(f"{len(responses)} responses to {count} statements")
        for response in responses:
            _mapping(response.get("Error", {}))
            _mapping(response.get("Item", {}))
        return list(responses)

    return read


def was_repeated(reply: Any) -> bool:
    """Tell whether the client sent the request more than once by itself: an earlier attempt may have been applied."""
    return bool(reply.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0)


def unprocessed_of(table_name: str, ids: Collection[str]) -> Read:
    """Read which of the ids that were sent in one BatchWriteItem came back."""

    def read(reply: Mapping[str, Any]) -> list[str]:
        requests = reply["UnprocessedItems"].get(table_name, [])
        unprocessed = [request["PutRequest"]["Item"]["id"]["S"] for request in requests]
        if not set(unprocessed) <= set(ids):
            raise ValueError("items came back that were not sent")
        return unprocessed

    return read


def items_of(table_name: str) -> Read:
    """Read the items of a BatchGetItem by their ids, and the keys that came back."""

    def read(reply: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        items = {item["id"]["S"]: _mapping(item) for item in reply["Responses"].get(table_name, [])}
        keys = reply.get("UnprocessedKeys", {}).get(table_name, {}).get("Keys", [])
        return items, list(keys)

    return read


def claimed_item(event_id: str, token: str) -> Read:
    """Read the item as a claim has left it."""

    def read(reply: Mapping[str, Any]) -> Mapping[str, Any]:
        item = read_new_item(reply)
        if not is_claim(item, event_id=event_id, token=token):
            raise ValueError("the item is not the one that was claimed")
        return item

    return read


def read_new_item(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the item as an update has left it."""
    return _mapping(reply["Attributes"])


def is_claim(item: Any, *, event_id: str, token: str) -> bool:
    """Tell whether an item is the one that a claim wrote; any other says nothing of what was applied."""
    try:
        float(item["gsiSortKey"]["N"])
        return bool(item["id"]["S"] == event_id and item["claimToken"]["S"] == token)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} in place of a mapping")
    return value


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
