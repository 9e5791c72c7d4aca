"""Checks of the responses of DynamoDB.

The SDK returns an empty response for a body that it cannot read. So this module checks each response whose content
matters. After an invalid response, the request may have been applied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Read = Callable[[Any], Any]
"""Reads a response; raises any exception if the response is invalid."""


class UnreadableResponseError(Exception):
    """A response is invalid. The request may have been applied."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"its response cannot be read ({type(cause).__name__}: {cause})")


def read_rows(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a page of the index."""
    for row in response["Items"]:
        _text(row["id"]["S"])
        _text(row["gsiSortKey"]["N"])
        float(row["gsiSortKey"]["N"])
    _mapping(response.get("LastEvaluatedKey", {}))
    return response


def read_count(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the count of a page of the index."""
    if not isinstance(response["Count"], int):
        raise TypeError("the count is not a number")
    _mapping(response.get("LastEvaluatedKey", {}))
    return response


def responses_to(count: int) -> Read:
    """Read the responses to a batch of `count` statements."""

    def read(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        responses = response["Responses"]
        if len(responses) != count:
            raise ValueError(f"{len(responses)} responses to {count} statements")
        for each in responses:
            _mapping(each.get("Error", {}))
            _mapping(each.get("Item", {}))
        return list(responses)

    return read


def was_repeated(response: Any) -> bool:
    """Tell whether the SDK repeated the request by itself, so that an earlier attempt may have been applied."""
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0)


def unprocessed_of(table_name: str, ids: Collection[str]) -> Read:
    """Read which of the `ids` a BatchWriteItem did not store."""

    def read(response: Mapping[str, Any]) -> list[str]:
        requests = response["UnprocessedItems"].get(table_name, [])
        unprocessed = [request["PutRequest"]["Item"]["id"]["S"] for request in requests]
        if not set(unprocessed) <= set(ids):
            raise ValueError("the response has unprocessed items that were not sent")
        return unprocessed

    return read


def items_of(table_name: str) -> Read:
    """Read the items of a BatchGetItem by their ids, and the keys that were not processed."""

    def read(response: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        items = {item["id"]["S"]: _mapping(item) for item in response["Responses"].get(table_name, [])}
        keys = response.get("UnprocessedKeys", {}).get(table_name, {}).get("Keys", [])
        return items, list(keys)

    return read


def claimed_item(event_id: str, token: str) -> Read:
    """Read the item that a claim wrote."""

    def read(response: Mapping[str, Any]) -> Mapping[str, Any]:
        item = read_new_item(response)
        if not is_claim(item, event_id=event_id, token=token):
            raise ValueError("the item is not the claimed item")
        return item

    return read


def read_new_item(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the item that an update wrote."""
    return _mapping(response["Attributes"])


def is_claim(item: Any, *, event_id: str, token: str | None) -> bool:
    """Tell whether a claim wrote this item. Another item proves nothing about the claim."""
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
