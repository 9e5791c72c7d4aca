"""uvicorn, for the stand-alone dashboard."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn

STOP_SECONDS = 5
"""How long an export that runs may go on after a signal."""


class _Server(uvicorn.Server):
    """Ends with a signal, and does not raise the signal again as uvicorn does: the caller has an outbox to close."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals until the end of the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        original = {one: signal.signal(one, self.handle_exit) for one in signals}
        try:
            yield
        finally:
            for one, handler in original.items():
                signal.signal(one, handler)


async def run(application: Any, listener: socket.socket) -> None:
    """Serve an ASGI application until SIGINT, SIGTERM or a cancellation."""
    server = _Server(
        uvicorn.Config(
            application,
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    try:
        await server.serve(sockets=[listener])
    except asyncio.CancelledError:
        if server.started:
            with anyio.CancelScope(shield=True):
                server.force_exit = True
                await server.shutdown(sockets=[listener])
        raise
