"""Records of queues: the events of an ordering key, in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQueue:
    """The item of a queue: its events are `head`, those of its pages, and `ids`.

    The other fields are those of `Stored`, for the event at the front; `token` is None if nobody has claimed it.
    `paged` has the ids of the pages. Only a final state has them.
    """

    key: str
    status: str
    ids: tuple[str, ...]
    head: tuple[str, ...] = ()
    paged: tuple[str, ...] = ()
    epoch: str = ""
    first_page: int = 0
    last_page: int = -1
    token: str | None = None
    retry_count: int = 0
    sort_key: int | None = None
    handled_by: tuple[str, ...] = ()
    indexed: bool = True
    unhandled_since: int | None = None

    @property
    def front(self) -> str:
        """The id of the event at the front; empty if there is none."""
        return next(iter(self.head or self.ids), "")

    @property
    def events(self) -> tuple[str, ...]:
        """The ids of all its events, in order; those of pages only in a final state."""
        return self.head + self.paged + self.ids


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWritten:
    """A change of the item of a queue in the log of the backend; see `Written`."""

    at: float
    key: str
    before: StoredQueue | None
    after: StoredQueue | None
    worker: str = ""
    began_at: float | None = None
    transaction: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWritten:
    """A page of a queue was stored, with its ids, or deleted; see `Written`."""

    at: float
    key: str
    epoch: str
    number: int
    ids: tuple[str, ...] = ()
    worker: str = ""
    began_at: float | None = None
    transaction: int = 0
