"""Whether a client can be used: it is not closed, and its connections belong to the running event loop.

aiobotocore has no public way to ask. This looks at the session below the client; where the SDK looks different inside,
the answer is that the client can be used, and what the SDK then raises is translated by `faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

CLOSED: Final = "it was closed"
_MARK: Final = "_dynamodb_outbox_closing"


class ClientState:
    """What can be seen of a client from outside."""

    __slots__ = ("_closing", "_session", "_was_connected")

    def __init__(self, client: object) -> None:
        self._session = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._closing = _closing_of(self._session)
        self._was_connected = False

    def connected(self) -> None:
        """Note that a call was answered."""
        self._was_connected = True

    def obstacle(self) -> str | None:
        """Say why no call can be made now, or None."""
        if self._closing is not None and self._closing.is_closed:
            return CLOSED
        pools = getattr(self._session, "_sessions", None)
        if not isinstance(pools, Mapping):
            return None
        if self._was_connected and not pools:
            return CLOSED
        for pool in pools.values():
            # A pool of another loop may carry the request all the same, and its answer would never be read.
            if getattr(pool, "_loop", None) not in (None, asyncio.get_running_loop()):
                return "it belongs to another event loop"
        return None


class _Closing:
    """Remembers that a client was closed."""

    __slots__ = ("is_closed",)

    def __init__(self) -> None:
        self.is_closed = False

    def __call__(self) -> None:
        self.is_closed = True


def _closing_of(session: Any) -> _Closing | None:
    """Have the session tell when it is closed.

    aiobotocore 2 clears its pools then, and looks as if it had never been used: a call would open a pool that nobody
    closes. All outboxes of a client share one mark, so that none is left on the client for each outbox.
    """
    mark = getattr(session, _MARK, None)
    stack = getattr(session, "_exit_stack", None)
    if not isinstance(mark, _Closing) and isinstance(stack, AsyncExitStack):
        mark = _Closing()
        stack.callback(mark)
        setattr(session, _MARK, mark)
    return mark if isinstance(mark, _Closing) else None
