"""The queue of an ordering key: one small item with the ids of the key's events, in order.

    queue = head ++ page first_page ++ ... ++ page last_page ++ ids

Usually there are `ids` only, and the first of them is the front. The eleventh event that waits makes them the `head`,
and more events make pages, so that the item stays small however many events wait. The item is in the index, and workers
claim it in place of its events: `status`, `gsiSortKey`, `claimToken`, `retryCount` and so on describe the delivery of
the event at the front. The item exists as long as an event waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.items.codec import Item, attribute, handled_by
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.event import RESERVED_IDS, RESERVED_QUEUE_IDS, EventStatus

PREFIX: Final = RESERVED_QUEUE_IDS
"""The id of a queue is this prefix and the key."""
PAGE_PREFIX: Final = f"{RESERVED_IDS}-page/"
WIDTH: Final = 10
"""The most ids in `ids`, in `head` and in a page: 20 UUIDs and the other attributes take less than 1 KB."""
NOBODY: Final = "-"
"""The token of a queue that no worker has claimed. Every queue has a token, so that only its first append sets it."""


def queue_id(key: str) -> str:
    """Return the id of the queue of a key."""
    return PREFIX + key


def is_queue_id(item_id: str) -> bool:
    """Tell whether an id is that of a queue. Ids of events cannot begin as it does."""
    return item_id.startswith(PREFIX)


def id_list(ids: tuple[str, ...]) -> AttributeValue:
    """Encode ids as a list."""
    return {"L": [{"S": each} for each in ids]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as it was read, or as a write returned it."""

    key: str
    ids: tuple[str, ...]
    head: tuple[str, ...] = ()
    epoch: str = ""
    """Names the pages: an epoch begins with the first page. Later queues of the key have other epochs."""
    first_page: int = 0
    last_page: int = -1
    token: str = NOBODY
    status: str = EventStatus.PENDING.value
    kept: int = 0
    """How many events of the key this worker has handled in a row. It is not stored."""

    @property
    def id(self) -> str:
        """The id of the item."""
        return queue_id(self.key)

    @property
    def front(self) -> str:
        """The id of the event at the front, whose turn it is."""
        return self.head[0] if self.head else self.ids[0]

    @property
    def pages(self) -> int:
        """The number of pages."""
        return max(self.last_page - self.first_page + 1, 0) if self.epoch else 0

    @property
    def known_ids(self) -> tuple[str, ...]:
        """The ids in the item itself: without the ids in pages."""
        return self.head + self.ids

    def page_id(self, number: int) -> str:
        """Return the id of the item of a page."""
        return f"{PAGE_PREFIX}{self.epoch}/{number}/{self.key}"

    def is_held_with(self, token: str) -> bool:
        """Tell whether a claim with this token still holds."""
        return self.token == token and self.status == EventStatus.PROCESSING.value


def read_queue(item: Mapping[str, Any]) -> Queue | None:
    """Read a queue from its item; None if the item is not one, because another program has written it."""
    stored = dict(item)
    item_id, ids, head = item["id"]["S"], _ids(stored, "ids"), _ids(stored, "head")
    if not is_queue_id(item_id) or ids is None or head is None or not (ids or head):
        return None
    try:
        return Queue(
            key=item_id.removeprefix(PREFIX),
            ids=ids,
            head=head,
            epoch=str(attribute(stored, "epoch", "S") or ""),
            first_page=int(attribute(stored, "firstPage", "N") or 0),
            last_page=int(attribute(stored, "lastPage", "N") or -1),
            token=str(attribute(stored, "claimToken", "S") or NOBODY),
            status=str(attribute(stored, "status", "S") or ""),
        )
    except ValueError:
        return None


def page_ids(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the ids of a page."""
    return _ids(dict(item), "ids") or ()


def _ids(item: Item, name: str) -> tuple[str, ...] | None:
    """Read a list of ids: empty if the attribute is missing, None if it is not a list of ids."""
    if name not in item:
        return ()
    members = attribute(item, name, "L")
    if not isinstance(members, list):
        return None
    ids = [member.get("S") if isinstance(member, Mapping) else None for member in members]
    texts = tuple(each for each in ids if isinstance(each, str) and each)
    return texts if len(texts) == len(ids) else None


def queue_of(claim: Claim) -> Queue | None:
    """Return the queue that a claim holds; None for an event without an ordering key."""
    return claim.queue if isinstance(claim.queue, Queue) else None


def holder_of(claim: Claim) -> str:
    """Return the id of the item that bears the lease of a claim: that of the queue, or of the event itself."""
    queue = queue_of(claim)
    return claim.event.id if queue is None else queue.id


DELIVERY_ATTRIBUTES: Final = (
    "status",
    "gsiSortKey",
    "statusShard",
    "claimToken",
    "claimedBy",
    "startedOn",
    "retryCount",
    "lastError",
    "errorType",
    "errorHandler",
    "handledBy",
    "unhandledSince",
)
"""The attributes of a queue that describe the delivery of the event at its front."""


def as_delivered(event: Mapping[str, AttributeValue], queue: Mapping[str, AttributeValue]) -> Item:
    """Return the item of the event at the front, with the delivery that its queue describes.

    An event that was set aside, and came back to the end of the line, keeps the names of the handlers that succeeded
    before, and its last error until there is another one.
    """
    kept = {name: value for name, value in event.items() if name not in DELIVERY_ATTRIBUTES}
    delivered = kept | {name: queue[name] for name in DELIVERY_ATTRIBUTES if name in queue}
    if "lastError" not in queue:
        delivered |= {name: event[name] for name in _ERROR if name in event}
    if handled := handled_by(dict(event)) | handled_by(dict(queue)):
        delivered["handledBy"] = {"SS": sorted(handled)}
    return delivered


_ERROR: Final = ("lastError", "errorType", "errorHandler")
