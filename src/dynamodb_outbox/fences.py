"""Fences: what somebody saw of an event, in a short text. A repair with it is refused once the event has changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.wording import shown

_FENCE: Final = re.compile(r"([A-Z]+)@(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)?")


@dataclass(frozen=True, slots=True)
class Fence:
    """The status of an event, and its sort key in the index as text; the sort key is empty if it has none."""

    status: EventStatus
    sort_key: str

    @property
    def text(self) -> str:
        """The fence as one word, such as `FAILED@1767312000000`."""
        return f"{self.status.value}@{self.sort_key}"


def fence_of(status: EventStatus, sort_key: int | str | None) -> str:
    """Write down what was seen of an event. Each transition of an event changes its status or its sort key."""
    return Fence(status, "" if sort_key is None else str(sort_key)).text


def read_fence(text: str) -> Fence:
    """Read a fence. Raises `ConfigurationError` for a text that is not one."""
    found = _FENCE.fullmatch(text)
    if found is None or found[1] not in EventStatus.__members__:
        raise ConfigurationError(
            f"fence={shown(text)}: it must be the fence of a StoredEvent, as get_event and list_events return it"
        )
    return Fence(EventStatus(found[1]), found[2] or "")


def fences_of(fences: Mapping[str, str] | None) -> dict[str, Fence]:
    """Read the fences of a call, by event id. Raises `ConfigurationError`."""
    return {} if fences is None else {event_id: read_fence(text) for event_id, text in fences.items()}
