"""Writes with the text of an error, each in the form that its item has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import Transition, Write, without_details
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, WriteResult
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, MAX_ERROR_TYPE_BYTES, SHORT_ERROR_CHARS, short_text
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.errors import InvalidRequestError, ItemTooLargeError
from dynamodb_outbox.handlers import MAX_NAME_BYTES
from dynamodb_outbox.observers import logger


class Writer(Protocol):
    """Makes writes: a `ConditionalWriter`, or an `AsideWriter`."""

    async def write(self, writes: Sequence[Write], *, within: float, urgent: bool = False) -> list[WriteResult]:
        """Make the writes; the results are in the same order."""
        ...


class FittedWriter:
    """Makes writes at once. Without room in an item, it tries smaller forms."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def write(self, write_of: Callable[[int, int], Write], count: int, *, within: float) -> list[WriteResult]:
        """Make writes, each built by `write_of(index, error_chars)`. The results are in the same order."""
        writes = [write_of(index, MAX_ERROR_CHARS) for index in range(count)]
        results = await self._writer.write(writes, within=within, urgent=True)
        for room in (Room.FOR_SHORT_ERROR, Room.FOR_NO_ERROR, Room.FOR_NOTHING):
            again = [index for index, result in enumerate(results) if _needs_less(result, writes[index], room)]
            if not again:
                continue
            smaller = [write_of(index, SHORT_ERROR_CHARS) for index in again]
            smaller = [replace(write, transition=fitted(write.transition, room)) for write in smaller]
            retried = await self._writer.write(smaller, within=within, urgent=True)
            for index, write, result in zip(again, smaller, retried, strict=True):
                results[index] = result
                if isinstance(result, Applied) and write.transition.add != writes[index].transition.add:
                    warn_of_lost_names(write.event_id)
        return results


def warn_of_lost_names(event_id: str) -> None:
    """Log that handlers which have succeeded run again."""
    logger.warning(
        "The names of the handlers that succeeded could not be stored with event %r: its item is full or its handledBy "
        "is not a set of strings. They run again with its next attempt. Store large payloads elsewhere, or give the "
        "handlers shorter names",
        event_id,
    )


def _needs_less(result: WriteResult, write: Write, room: Room) -> bool:
    """Tell whether to repeat a write in the form for this room."""
    # Another program may have stored a handledBy that is not a set. No name can be added to it.
    takes_no_names = isinstance(result, InvalidRequestError) and bool(write.transition.add) and room is Room.FOR_NOTHING
    return isinstance(result, ItemTooLargeError) or takes_no_names


def with_details(
    transition: Transition, error_type: str | None, error_handler: str | None, values: dict[str, AttributeValue]
) -> Transition:
    """Add the class of an error and its handler to the values, and remove the stored ones if they are not known."""
    missing: list[str] = []
    for attribute, name, text, limit in (
        ("errorType", "error_type", error_type, MAX_ERROR_TYPE_BYTES),
        ("errorHandler", "error_handler", error_handler, MAX_NAME_BYTES),
    ):
        if text:
            values[name] = short_text(text, limit)
        else:
            missing.append(attribute)
    return without_details(transition, tuple(missing)) if missing else transition
