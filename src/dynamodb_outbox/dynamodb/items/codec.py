"""Events and claims to items and back; the attributes of the table by name.

Epoch milliseconds exist only here: the rest of the library has times in float seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.unstorable import Unstorable
from dynamodb_outbox.dynamodb.items.values import AttributeValue, decode, encode, text_size
from dynamodb_outbox.errors import EventTooLargeError, StoredEventError, UnstorableValueError
from dynamodb_outbox.errors.wording import LONGEST_SHOWN
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.port import Claim, Numbers

Item = dict[str, AttributeValue]
"""The attributes of an item by name, as the low-level API of DynamoDB has them: `{"id": {"S": "order-1"}, ...}`."""

MAX_ITEM_BYTES: Final = 409_600
"""DynamoDB's limit for an item, attribute names included."""
MAX_ERROR_CHARS: Final = 1_024
"""How many characters of the last error are stored."""
SHORT_ERROR_CHARS: Final = 64
"""What is left of an error whose text would push the item past DynamoDB's limit."""
DELIVERY_BYTES: Final = 8_192
"""Kept free for what delivery adds, so that whatever was stored is also delivered, with its error and its handlers.

The longest that each can be, its name included: claimToken 42, startedOn 17, a longer status 3, statusShard 25, a
longer retryCount 1, unhandledSince 22, completedOn 19, expireAt 14, lastError in its short form 9 + 64 x 4. That is
408. What is left, 7,784, is for handledBy: its name takes 9, and the names of 30 handlers, of 255 bytes at most, 7,650.

Beyond these 30, and for items that others have stored, the writes have forms that need less room: see `Room`.
"""

WRAPPED: Final = "$value"
"""The one member of the map that holds a payload which is no mapping."""


def encode_claimed(item: Item, *, token: str, now: float, lease_expires_at: float) -> Item:
    """Make of a PENDING item one that is claimed; `DELIVERY_BYTES` has room for what is added."""
    return {
        **item,
        "status": {"S": EventStatus.PROCESSING.value},
        "claimToken": {"S": token},
        "startedOn": millis(now),
        "gsiSortKey": millis(lease_expires_at),
    }


def encode_event(event: Event, *, due_at: float, numbers: Numbers) -> tuple[Item, int]:
    """Encode an event as a PENDING item; return it with its size in bytes.

    Raises `UnstorableValueError` with the path of the offending value, or `EventTooLargeError`.
    """
    payload, size = _encode_at("payload", wrap(event.payload), event.id, numbers)
    item: Item = {
        "id": {"S": event.id},
        "type": {"S": event.type},
        "payload": payload,
        "occurredAt": {"S": event.occurred_at.isoformat()},
        "status": {"S": EventStatus.PENDING.value},
        "retryCount": {"N": "0"},
        "gsiSortKey": millis(due_at),
    }
    size += _FIXED_BYTES + text_size(event.id) + text_size(event.type)
    if event.metadata:
        item["metadata"], metadata_size = _encode_at("metadata", event.metadata, event.id, numbers)
        size += len("metadata") + metadata_size
    if size > MAX_ITEM_BYTES - DELIVERY_BYTES:
        raise EventTooLargeError(event_id=event.id, size=size, limit=MAX_ITEM_BYTES - DELIVERY_BYTES)
    return item, size


# The names of the attributes that every event has, and the values whose length is known.
_FIXED_BYTES: Final = len("idtypepayloadoccurredAtstatusretryCountgsiSortKey") + 32 + 10 + 2 + 9


def _encode_at(root: str, value: Any, event_id: str, numbers: Numbers) -> tuple[AttributeValue, int]:
    try:
        return encode(value, numbers=numbers)
    except Unstorable as error:
        path = error.path(root).replace(f"{root}['{WRAPPED}']", root, 1)
        raise UnstorableValueError(path=path, reason=error.reason, event_id=event_id) from None


def wrap(payload: Any) -> Any:
    """Put a payload that is stored as no map into one; a map that looks like such a one is wrapped, too."""
    if type(payload) is dict:
        return {WRAPPED: payload} if len(payload) == 1 and WRAPPED in payload else payload
    if isinstance(payload, Mapping):
        return wrap(dict(payload))
    return {WRAPPED: payload}


def unwrap(payload: dict[str, Any]) -> Any:
    """Undo `wrap`."""
    return payload[WRAPPED] if len(payload) == 1 and WRAPPED in payload else payload


def decode_event(item: Item, *, numbers: Numbers) -> Event:
    """Read an event from its item. Raises `StoredEventError` where it is none."""
    try:
        return Event(
            item["type"]["S"],
            unwrap(decode({"M": item["payload"]["M"]}, numbers=numbers)),
            id=item["id"]["S"],
            occurred_at=_decode_time(item["occurredAt"]["S"]),
            metadata=decode({"M": item["metadata"]["M"]}, numbers=numbers) if "metadata" in item else {},
        )
    except Exception as error:  # whatever it is: other writers may have stored anything
        # Not from the error, whose text may show what is stored.
        raise StoredEventError(event_id=item["id"]["S"], reason=_unreadable(item, error)) from None


def _decode_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _unreadable(item: Item, error: Exception) -> str:
    """Say what is wrong with an item, in a few words and without what is stored in it, which may be confidential."""
    for name, kind in _KINDS.items():
        if name not in item:
            if name in _REQUIRED:
                return f"the attribute {name!r} is missing"
        elif _value(item, name, kind) is None:
            return f"the attribute {name!r} is not of the type {kind}"
    if isinstance(error, UnstorableValueError):
        text = str(error)
        return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
    try:
        _decode_time(item["occurredAt"]["S"])
    except Exception:
        return "the attribute 'occurredAt' is not a time in ISO 8601"
    return f"its payload or metadata cannot be read ({type(error).__name__})"


_REQUIRED: Final = ("type", "payload", "occurredAt")
_KINDS: Final = {"type": "S", "payload": "M", "occurredAt": "S", "metadata": "M"}


def decode_claim(item: Item, *, numbers: Numbers) -> Claim:
    """Read a claim from the item that a claiming write returned. Raises `StoredEventError`."""
    return Claim(
        event=decode_event(item, numbers=numbers),
        token=item["claimToken"]["S"],
        attempt=retry_count(item) + 1,
        lease_expires_at=seconds(item["gsiSortKey"]),
        handled_by=handled_by(item),
        last_error=last_error(item),
        unhandled_since=unhandled_since(item) if "unhandledSince" in item else None,
    )


def decode_failed(item: Item, *, numbers: Numbers) -> FailedEvent:
    """Read a dead letter; what cannot be read is None, empty, or the nearest value, as `last_error` then tells."""
    try:
        event: Event | None = decode_event(item, numbers=numbers)
    except StoredEventError:
        event = None
    failed_at, note = _time_of_failure(item)
    return FailedEvent(
        id=item["id"]["S"],
        type=event.type if event else str(_value(item, "type", "S") or "?"),
        payload=event.payload if event else None,
        occurred_at=event.occurred_at if event else _EPOCH,
        metadata=event.metadata if event else {},
        retry_count=retry_count(item),
        last_error=" ".join(filter(None, (last_error(item), note))),
        failed_at=failed_at,
        handled_by=handled_by(item),
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def _time_of_failure(item: Item) -> tuple[datetime, str]:
    """Read the time of a failure, and what is wrong with it: others may have stored one that no datetime can hold."""
    stored = _value(item, "gsiSortKey", "N")
    try:
        since_epoch = float(stored) / 1000
    except (TypeError, ValueError):
        return _EPOCH, "(failed_at is not known: the item has no gsiSortKey)"
    try:
        return _EPOCH + timedelta(seconds=since_epoch), ""
    except (OverflowError, ValueError):
        limit = _LAST if since_epoch > 0 else _FIRST
        return limit, f"(failed_at is not exact: the gsiSortKey {str(stored)[:40]} is not a time in milliseconds)"


def retry_count(item: Item) -> int:
    """Read the number of retries; items of other writers may lack it."""
    try:
        return max(int(_value(item, "retryCount", "N")), 0)
    except (TypeError, ValueError):
        return 0


def last_error(item: Item) -> str:
    """Read the last error."""
    return str(_value(item, "lastError", "S") or "")


def unhandled_since(item: Item) -> float | None:
    """Read since when no worker has had a handler; None if that is not a time, as others may have written it."""
    try:
        since = seconds(item["unhandledSince"])
    except (KeyError, TypeError, ValueError):
        return None
    return since if 0 <= since <= _LATEST else None


_LATEST: Final = 100_000_000_000.0
"""In the year 5138."""


def handled_by(item: Item) -> frozenset[str]:
    """Read the names of the handlers that succeeded."""
    names = _value(item, "handledBy", "SS")
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, _COLLECTIONS) else _NOBODY


_COLLECTIONS: Final = (list, tuple, set, frozenset)
_NOBODY: Final = frozenset[str]()


def _value(item: Item, name: str, kind: str) -> Any:
    """Read an attribute of one kind; None where it is missing, or of another kind: others may have stored it."""
    value: Any = item.get(name)
    return value.get(kind) if isinstance(value, Mapping) else None


def millis(seconds: float) -> AttributeValue:
    """Write a time as epoch milliseconds."""
    return {"N": str(round(seconds * 1000))}


def seconds(value: AttributeValue) -> float:
    """Read a time in epoch seconds."""
    return float(value["N"]) / 1000


def error_text(text: str, limit: int = MAX_ERROR_CHARS) -> AttributeValue:
    """Write an error as text, cut to the limit; whatever is no valid Unicode is replaced."""
    text = text.encode(errors="replace").decode()
    return {"S": text if len(text) <= limit else text[: limit - 1] + "…"}
