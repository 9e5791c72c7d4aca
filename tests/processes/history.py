"""What the processes of the tests have in common: their arguments, and the history that they write together."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Note = Callable[..., None]
"""Writes a line of the history: what happened, and facts by name."""


def arguments() -> tuple[str, str, Note, dict[str, Any]]:
    """Read the arguments ENDPOINT TABLE HISTORY [OPTIONS as JSON] of a process."""
    endpoint, table_name, history, *options = sys.argv[1:]
    file = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, **facts: Any) -> None:
        line = json.dumps({"what": what, "pid": os.getpid(), "at": time.time(), **facts})
        os.write(file, f"{line}\n".encode())

    return endpoint, table_name, note, json.loads(options[0]) if options else {}
