"""What the library keeps for each process: the numbers of its ids, which ids it has sent, and its name in claims.

All simulated processes share the modules of one real process. Each has its own identity, which is in force while its
loop runs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from dynamodb_outbox import event as event_module
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.worker_identity import worker_identity

Numbering = tuple[bytes, Iterator[int]] | None


class Identity:
    """The identity of one process, as a context. Contexts of one identity are not nested."""

    __slots__ = ("_marks", "_next", "_numbering", "_outer", "worker")

    def __init__(self, worker: str = "simulated/1/000000") -> None:
        self.worker = worker
        """The name of the process in its claims. A real one has the length of this machine's name."""
        self._numbering: Numbering = None
        self._next = 0
        self._marks: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._outer: tuple[Numbering, int, WeakValueDictionary[str, Any], tuple[int, str] | None]

    def clone(self) -> Identity:
        """Make the identity of a process that continues from a snapshot of the memory of this one."""
        clone = Identity(self.worker)
        clone._next = self._next
        if self._numbering is not None:
            clone._numbering = (self._numbering[0], itertools.count(self._next))
        return clone

    # Private names, because the library has no reason to change the numbering of its process.

    def __enter__(self) -> None:
        known = worker_identity._known  # noqa: SLF001
        self._outer = (event_ids._numbering, event_ids._next, event_module._marks, known)  # noqa: SLF001
        event_ids._numbering, event_ids._next = self._numbering, self._next  # noqa: SLF001
        event_module._marks = self._marks  # noqa: SLF001
        worker_identity._known = (os.getpid(), self.worker)  # noqa: SLF001

    def __exit__(self, *_: object) -> None:
        self._numbering, self._next = event_ids._numbering, event_ids._next  # noqa: SLF001
        event_ids._numbering, event_ids._next, event_module._marks, worker_identity._known = self._outer  # noqa: SLF001
