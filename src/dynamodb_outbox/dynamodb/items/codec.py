"""Conversion of events and claims to items and back.

Only this module and the items use epoch milliseconds; all other modules use seconds as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.items.unstorable import Unstorable
from dynamodb_outbox.dynamodb.items.values import AttributeValue, decode, encode, text_size
from dynamodb_outbox.errors import EventTooLargeError, StoredEventError, UnstorableValueError
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.shared_lease import SharedLease
from dynamodb_outbox.wording import LONGEST_SHOWN

Item = dict[str, AttributeValue]
"""An item as DynamoDB's low-level API represents it: `{"id": {"S": "order-1"}, ...}`."""

MAX_ITEM_BYTES: Final = 409_600
"""DynamoDB's limit for an item, including its attribute names."""
MAX_ERROR_TYPE_BYTES: Final = 64
"""The outbox stores at most this many bytes of the class name of an error."""
MAX_ERROR_CHARS: Final = 1_024
"""The outbox stores at most this many characters of the last error."""
SHORT_ERROR_CHARS: Final = 64
"""The outbox stores only this many characters if a longer error would make the item too large."""
DELIVERY_BYTES: Final = 8_192
"""Space that an emitted event leaves free for the attributes that delivery adds. A larger event is refused at once.

The largest size of each attribute, including its name: claimToken 42, claimedBy 9 + 64, startedOn 17, a longer status
3, statusShard 25, a longer retryCount 1, unhandledSince 22, completedOn 19, expireAt 14, window 6 + 16, a short
lastError 9 + 64 x 4, errorType 9 + 64, errorHandler 12 + 255. The sum is 843. That leaves 7,349 bytes for handledBy: 9
for its name, and 7,140 for the names of 28 handlers with 255 bytes each.

Events with more handlers, and items of other writers, can exceed the limit. `Room` has smaller writes for them.
"""

WRAPPED: Final = "$value"
"""The key under which `wrap` stores a payload that is not a mapping."""


def encode_claimed(item: Item, *, token: str, worker: str, now: float, lease_expires_at: float) -> Item:
    """Return a PENDING item as a claimed one. The added attributes fit into `DELIVERY_BYTES`."""
    return {
        **item,
        "status": {"S": EventStatus.PROCESSING.value},
        "claimToken": {"S": token},
        "claimedBy": {"S": worker},
        "startedOn": millis(now),
        "gsiSortKey": millis(lease_expires_at),
    }


def encode_unlisted(item: Item, *, token: str, worker: str, window: str, now: float) -> Item:
    """Return a PENDING item as a claimed one that is in no index. After a crash, its window finds it by its id."""
    kept = {name: value for name, value in item.items() if name not in _INDEX_KEYS}
    return {
        **kept,
        "status": {"S": EventStatus.PROCESSING.value},
        "claimToken": {"S": token},
        "claimedBy": {"S": worker},
        "startedOn": millis(now),
        "window": {"S": window},
    }


def is_unlisted(item: Mapping[str, Any]) -> bool:
    """Tell whether a stored event is claimed and in no index."""
    return item.get("status") == {"S": EventStatus.PROCESSING.value} and "gsiSortKey" not in item


_INDEX_KEYS: Final = ("gsiSortKey", "statusShard")


def encode_event(event: Event, *, due_at: float, numbers: Numbers) -> tuple[Item, int]:
    """Encode an event as a PENDING item; return the item and its size in bytes.

    An event with an ordering key becomes a QUEUED item, which is in no index: the queue of its key is.

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
    if event.ordering_key is not None:
        item |= {"status": {"S": EventStatus.QUEUED.value}, "orderingKey": {"S": event.ordering_key}}
        del item["gsiSortKey"]
        size += len("orderingKey") + text_size(event.ordering_key)
    size += _FIXED_BYTES + text_size(event.id) + text_size(event.type)
    if event.metadata:
        item["metadata"], metadata_size = _encode_at("metadata", event.metadata, event.id, numbers)
        size += len("metadata") + metadata_size
    if size > MAX_ITEM_BYTES - DELIVERY_BYTES:
        raise EventTooLargeError(event_id=event.id, size=size, limit=MAX_ITEM_BYTES - DELIVERY_BYTES)
    return item, size


# The names of the attributes that every event has, and their values of a fixed length.
_FIXED_BYTES: Final = len("idtypepayloadoccurredAtstatusretryCountgsiSortKey") + 32 + 10 + 2 + 9


def _encode_at(root: str, value: Any, event_id: str, numbers: Numbers) -> tuple[AttributeValue, int]:
    try:
        return encode(value, numbers=numbers)
    except Unstorable as error:
        path = error.path(root).replace(f"{root}['{WRAPPED}']", root, 1)
        raise UnstorableValueError(path=path, reason=error.reason, event_id=event_id) from None


def wrap(payload: Any) -> Any:
    """Turn a payload into a map: 5 becomes `{"$value": 5}`. So does a mapping whose only key is `$value`."""
    if type(payload) is dict:
        return {WRAPPED: payload} if len(payload) == 1 and WRAPPED in payload else payload
    if isinstance(payload, Mapping):
        return wrap(dict(payload))
    return {WRAPPED: payload}


def unwrap(payload: dict[str, Any]) -> Any:
    """Undo `wrap`."""
    return payload[WRAPPED] if len(payload) == 1 and WRAPPED in payload else payload


def decode_event(item: Item, *, numbers: Numbers) -> Event:
    """Read an event from its item. Raises `StoredEventError` if the item is not a readable event."""
    try:
        return Event(
            item["type"]["S"],
            unwrap(decode({"M": item["payload"]["M"]}, numbers=numbers)),
            id=item["id"]["S"],
            occurred_at=_decode_time(item["occurredAt"]["S"]),
            metadata=decode({"M": item["metadata"]["M"]}, numbers=numbers) if "metadata" in item else {},
            ordering_key=item["orderingKey"]["S"] if "orderingKey" in item else None,
        )
    except Exception as error:  # any exception: other writers may have stored anything
        # No cause: its text may show stored values, which may be confidential.
        raise StoredEventError(event_id=item["id"]["S"], reason=_unreadable(item, error)) from None


def _decode_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _unreadable(item: Item, error: Exception) -> str:
    """Describe what is wrong with an item, without its stored values, which may be confidential."""
    for name, kind in _KINDS.items():
        if name not in item:
            if name in _REQUIRED:
                return f"the attribute {name!r} is missing"
        elif attribute(item, name, kind) is None:
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
_KINDS: Final = {"type": "S", "payload": "M", "occurredAt": "S", "metadata": "M", "orderingKey": "S"}


def decode_claim(
    item: Item, *, numbers: Numbers, due: AttributeValue | None = None, shared_lease: SharedLease | None = None
) -> Claim:
    """Read a claim from the item that a claim's write returned, or that was stored claimed under a shared lease.

    `due` is the sort key that the claim replaced. Without it the event was claimed on emit, and due at once. Raises
    `StoredEventError`.
    """
    return Claim(
        event=decode_event(item, numbers=numbers),
        token=item["claimToken"]["S"],
        attempt=retry_count(item) + 1,
        lease_expires_at=seconds(item["gsiSortKey"]) if shared_lease is None else shared_lease.expires_at,
        handled_by=handled_by(item),
        last_error=last_error(item),
        unhandled_since=unhandled_since(item) if "unhandledSince" in item else None,
        error_type=attribute(item, "errorType", "S"),
        error_handler=attribute(item, "errorHandler", "S"),
        due_at=_time_in(due or item.get("startedOn")),
        shared_lease=shared_lease,
    )


def retry_count(item: Item) -> int:
    """Read the number of retries; 0 if another writer left it out."""
    try:
        return max(int(attribute(item, "retryCount", "N")), 0)
    except (TypeError, ValueError):
        return 0


def last_error(item: Item) -> str:
    """Read the last error."""
    return str(attribute(item, "lastError", "S") or "")


def unhandled_since(item: Item) -> float | None:
    """Read the time since which no worker has had a handler; None if another writer stored an invalid time."""
    return _time_in(item.get("unhandledSince"))


def _time_in(value: Any) -> float | None:
    try:
        time = seconds(value)
    except (KeyError, TypeError, ValueError):
        return None
    return time if 0 <= time <= _LATEST else None


_LATEST: Final = 100_000_000_000.0
"""The year 5138. A later time is treated as invalid."""


def handled_by(item: Item) -> frozenset[str]:
    """Read the names of the handlers that succeeded."""
    names = attribute(item, "handledBy", "SS")
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, _COLLECTIONS) else _NOBODY


_COLLECTIONS: Final = (list, tuple, set, frozenset)
_NOBODY: Final = frozenset[str]()


def attribute(item: Item, name: str, kind: str) -> Any:
    """Read an attribute of the type `kind`; None if it is missing or has another type, as in items of other writers."""
    value: Any = item.get(name)
    return value.get(kind) if isinstance(value, Mapping) else None


def millis(seconds: float) -> AttributeValue:
    """Encode a time as epoch milliseconds."""
    return {"N": str(round(seconds * 1000))}


def seconds(value: AttributeValue) -> float:
    """Read a time in epoch seconds."""
    return float(value["N"]) / 1000


def short_text(text: str, limit: int) -> AttributeValue:
    """Encode a name, cut to a number of bytes."""
    return {"S": text.encode(errors="replace")[:limit].decode(errors="ignore")}


def error_text(text: str, limit: int = MAX_ERROR_CHARS) -> AttributeValue:
    """Encode an error's text, cut to the limit. Replaces invalid Unicode, such as lone surrogates."""
    text = text.encode(errors="replace").decode()
    return {"S": text if len(text) <= limit else text[: limit - 1] + "…"}
