"""Removes from a stored event what a person may not see. Every page, list and export passes through here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.stored_events import StoredEvent
from dynamodb_outbox.web.access import Access, Role
from dynamodb_outbox.wording import shape

logger: Final = logging.getLogger("dynamodb_outbox.web")
Redact = Callable[[StoredEvent], StoredEvent]
"""Returns a copy of an event without what nobody may see, by `dataclasses.replace(event, payload=...)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleEvent:
    """An event as one person sees it. If `hidden` has a reason, `event` has neither payload nor metadata.

    `is_redacted` says that `redact` has changed the payload, so that it cannot be edited.
    """

    event: StoredEvent
    hidden: str | None = None
    is_redacted: bool = False


def visible(event: StoredEvent, access: Access, redact: Redact | None) -> VisibleEvent:
    """Remove what the person may not see. If `redact` fails, payload, metadata and error text are removed."""
    redacted, failed = event, None
    if redact is not None:
        try:
            # A copy, because a redact that changes the payload in place would pass unseen, and be edited and stored.
            redacted = redact(replace(event, payload=deepcopy(event.payload), metadata=deepcopy(dict(event.metadata))))
            if not isinstance(redacted, StoredEvent):
                raise ConfigurationError(f"redact returned {shape(redacted)}; it must return a StoredEvent")
        except Exception:
            logger.exception("redact raised an exception for event %r: its payload is not shown", event.id)
            redacted, failed = replace(event, last_error="(not shown: redact failed)"), "redact failed; see the log"
    # An id that `redact` changes would make every link and action miss the event.
    redacted = replace(redacted, id=event.id, status=event.status, state=event.state, fence=event.fence)
    # `redact` knows payloads, and not where the same text is in the item of an event that cannot be read.
    redacted = replace(redacted, item=event.item if redact is None else None)
    if failed is None and access.may(Role.PAYLOAD):
        return VisibleEvent(event=redacted, is_redacted=redacted.payload != event.payload)
    reason = failed or f"{shape(event.payload)}; to see it, you need the role `payload`"
    return VisibleEvent(event=replace(redacted, payload=None, metadata={}, item=None), hidden=reason)
