"""The errors of an emit or a transaction whose events are not stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dynamodb_outbox.event import Event
from dynamodb_outbox.event_errors import OutboxError, PublishError
from dynamodb_outbox.wording import shown, times


class DuplicateEventError(PublishError):
    """An event with the same id is stored already, and was not changed; or two events of one call have the same id.

    `stored` is the stored event, if it could be read. Its payload may differ from the payload of the refused event.
    `maybe_applied` is true if an earlier attempt of the transaction was not answered: then that attempt may have stored
    the event, together with everything else of the transaction.
    """

    def __init__(
        self,
        *,
        event_id: str,
        within: Literal["an emit", "the same call", "a transaction"] = "an emit",
        stored: Event | None = None,
        maybe_applied: bool = False,
    ) -> None:
        self.event_id = event_id
        self.stored = stored
        self.maybe_applied = maybe_applied
        stored_already = f"an event with the id {event_id!r} is stored already"
        message = {
            "an emit": f"{stored_already}; if this is a repeated emit, you can go on, else use another id",
            "the same call": f"two events of one call have the id {event_id!r}, so nothing was sent; remove one",
            "a transaction": (
                f"{stored_already}, so nothing of the transaction was written; if this is a repeated transaction, you "
                "can go on, else use another id"
            ),
        }
        in_doubt = (
            f"{stored_already}. An earlier attempt of this transaction was not answered: either it was applied, and "
            "has stored the event, or nothing of the transaction was written. To find out, read an item that it writes"
        )
        super().__init__(in_doubt if maybe_applied else message[within])


class PartialPublishError(PublishError):
    """Some or all events of an `emit_many` were not stored by this call.

    The events in `published` are stored and will be delivered. The events in `failed` were not stored by this call, as
    far as is known. `causes` has the error of each failed event by its id: after a `DuplicateEventError` the event was
    stored before, and after an error with `maybe_applied` the event may be stored. To repeat the failed events without
    storing one of them twice, call `emit_many(error.failed, if_exists="ignore")`.
    """

    def __init__(
        self, *, published: Sequence[Event], failed: Sequence[Event], causes: Mapping[str, OutboxError]
    ) -> None:
        self.published = list(published)
        self.failed = list(failed)
        self.causes = dict(causes)
        others = [cause for cause in self.causes.values() if not isinstance(cause, DuplicateEventError)]
        first = next(iter(others or self.causes.values()), None)
        super().__init__(
            f"{len(self.published)} of {len(self.published) + len(self.failed)} events are stored now"
            f"{self._counts(others)} (see .failed and .causes); "
            f'to repeat the others safely, call emit_many(error.failed, if_exists="ignore"). First cause: {first}'
        )

    def _counts(self, others: Sequence[OutboxError]) -> str:
        """Count the failed events: stored before, may be stored, could not be stored."""
        before = len(self.causes) - len(others)
        maybe = sum(getattr(cause, "maybe_applied", False) for cause in others)
        counts = (
            (before, f"{'was' if before == 1 else 'were'} stored before"),
            (maybe, "may be stored"),
            (len(others) - maybe, "could not be stored"),
        )
        return "".join(f", {count} {what}" for count, what in counts if count)


class TransactionTooLargeError(PublishError):
    """A transaction with more than 100 items or 4 MB. Nothing was sent. `size` and `max_size` are in bytes.

    The events of each ordering key need up to two more items for the queue of the key, and one for each further ten
    events.
    """

    def __init__(
        self,
        *,
        writes: int,
        events: int,
        records: int,
        size: int,
        max_items: int,
        max_size: int,
        queues: int = 0,
    ) -> None:
        self.items = writes + events + records + queues
        self.size = size
        self.max_items = max_items
        self.max_size = max_size
        queue = f", up to {queues} for the queues of their ordering keys" if queues else ""
        record = " and the record of the delivery" if records else ""
        what = (
            f"{self.items} items ({writes} writes, {events} events{queue}{record}), but the limit is {max_items}"
            if self.items > max_items
            else f"{size:,} bytes, but the limit is {max_size:,}"
        )
        super().__init__(
            f"the transaction has {what}; nothing was sent. Split the transaction, or emit some of its events outside"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationReason:
    """Why DynamoDB refused one item of a transaction.

    - `index` is the position of the item: first the writes in their order, then the events.
    - `operation` is Put, Update, Delete or ConditionCheck. `table_name` is its table.
    - `key` is the key of the item; empty for a Put.
    - `event_id` is the id, if the item is an event.
    - `code` and `message` come from DynamoDB: ConditionalCheckFailed, for example.
    - `item` is the stored item in its low-level form, if `ReturnValuesOnConditionCheckFailure` asked for it.
    """

    index: int
    operation: str
    table_name: str
    key: Mapping[str, Any]
    event_id: str | None
    code: str
    message: str
    item: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        what = (
            f" of event {self.event_id!r}"
            if self.event_id is not None
            else f" of {shown(dict(self.key))}"
            if self.key
            else ""
        )
        return f"item {self.index}, {self.operation}{what} in {self.table_name!r}: {self.code}: {self.message}"


class TransactionCancelledError(PublishError):
    """DynamoDB refused a transaction and wrote nothing of it. `reasons` lists the refused items.

    `attempts` counts the requests. `maybe_applied` is true if DynamoDB did not respond to an earlier request: that
    request may still take effect.
    """

    def __init__(
        self, *, reasons: Sequence[CancellationReason], attempts: int = 1, maybe_applied: bool = False
    ) -> None:
        self.reasons = list(reasons)
        self.attempts = attempts
        self.maybe_applied = maybe_applied
        lines = "".join(f"\n  - {reason}" for reason in self.reasons)
        often = f" {times(attempts)}" if attempts > 1 else ""
        written = (
            "but DynamoDB did not respond to an earlier attempt, which may still be carried out"
            if maybe_applied
            else "and nothing of it was written"
        )
        super().__init__(f"DynamoDB cancelled the transaction{often}, {written}:{lines}")
