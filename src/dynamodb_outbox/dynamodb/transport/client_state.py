"""Whether a client can be used: it is not closed, and its connections belong to the running event loop.

aiobotocore has no public way to ask, so this module reads private attributes of the client's session. If an SDK lacks
these attributes, the client counts as usable, and `classify` translates the errors of the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

CLOSED: Final = "it was closed"
_MARK: Final = "_dynamodb_outbox_closing"


class ClientState:
    """Knows whether a client was closed, and whether its connections belong to the running event loop."""

    __slots__ = ("_closing", "_session", "_was_connected")

    def __init__(self, client: object) -> None:
        self._session = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._closing = _closing_of(self._session)
        self._was_connected = False

    def connected(self) -> None:
        """Note that a call got a response."""
        self._was_connected = True

    def obstacle(self) -> str | None:
        """Return why the client cannot be used now, or None if it can."""
        if self._closing is not None and self._closing.is_closed:
            return CLOSED
        pools = getattr(self._session, "_sessions", None)
        if not isinstance(pools, Mapping):
            return None
        if self._was_connected and not pools:
            return CLOSED
        for pool in pools.values():
            # A pool of another loop may send the request, but its response would never be read.
            if getattr(pool, "_loop", None) not in (None, asyncio.get_running_loop()):
                return "it belongs to another event loop"
        return None


class _Closing:
    """Remembers that a client was closed. The session's exit stack calls it."""

    __slots__ = ("is_closed",)

    def __init__(self) -> None:
        self.is_closed = False

    def __call__(self) -> None:
        self.is_closed = True


def _closing_of(session: Any) -> _Closing | None:
    """Register a callback for the closing of the session.

    aiobotocore 2 removes its pools when it is closed, as if it had never been used: a later call would open a pool that
    is never closed. All outboxes of a client share one callback, so that callbacks do not pile up on the client.
    """
    mark = getattr(session, _MARK, None)
    stack = getattr(session, "_exit_stack", None)
    if not isinstance(mark, _Closing) and isinstance(stack, AsyncExitStack):
        mark = _Closing()
        stack.callback(mark)
        setattr(session, _MARK, mark)
    return mark if isinstance(mark, _Closing) else None
