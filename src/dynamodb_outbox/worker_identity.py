"""Who claims events: `HOST/PID/INSTANCE`, so that an operator knows where to look for a worker.

The instance is random: in containers, the process with the number 1 of a restarted host is another process.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from typing import Final

MAX_IDENTITY_BYTES: Final = 64
"""An identity is stored with each claim, so it is short."""
INSTANCE_BYTES: Final = 3
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]")


class WorkerIdentity:
    """The identity of this process. A fork has another one than its parent."""

    def __init__(self) -> None:
        self._known: tuple[int, str] | None = None

    @property
    def text(self) -> str:
        """The identity, such as `orders-7f9c/1/3f9a2c`."""
        pid = os.getpid()
        known = self._known
        if known is None or known[0] != pid:
            known = self._known = (pid, identity_of(socket.gethostname(), pid, secrets.token_hex(INSTANCE_BYTES)))
        return known[1]


def identity_of(host: str, pid: int, instance: str) -> str:
    """Make an identity. A long name of a host loses its end, and characters that are not for names become `_`."""
    end = f"/{pid}/{instance}"
    return (_OTHER.sub("_", host)[: MAX_IDENTITY_BYTES - len(end)] or "?") + end


worker_identity = WorkerIdentity()
"""The identity of this process."""
