"""The ids that this process gives to events: random, or numbered under a secret seed.

A worker on DynamoDB stores events that are claimed on emit outside of the index. So that their ids can be found after
a crash, its window item has the seed and a range of numbers: see `dynamodb/windows/`. Ids are random until the first
window opens.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from uuid import uuid4

SEED_BYTES: Final = 16
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class IdNumber:
    """The number of an id, and the seed that it is numbered under."""

    seed: bytes
    number: int


class NewId(str):
    """An id that this process has just made, and that no other process can know."""

    __slots__ = ("number",)

    number: IdNumber | None


def numbered_id(seed: bytes, number: int) -> str:
    """Return the id of a number: a UUID of version 8. Without the seed, nobody can tell the id of another number."""
    digest = bytearray(blake2b(number.to_bytes(8, "big"), key=seed, digest_size=_ID_BYTES).digest())
    digest[6] = 0x80 | (digest[6] & 0x0F)
    digest[8] = 0x80 | (digest[8] & 0x3F)
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class EventIds:
    """The source of the ids of a process. Threads may share it."""

    def __init__(self) -> None:
        # The seed and its counter change together, so that no number is used twice under one seed.
        self._numbering: tuple[bytes, Iterator[int]] | None = None
        self._next = 0

    @property
    def seed(self) -> bytes | None:
        """The seed of the ids that are made now; None while they are random."""
        return None if self._numbering is None else self._numbering[0]

    @property
    def next_number(self) -> int:
        """The number of the next id. Another thread may have taken it already."""
        return self._next

    def new(self) -> NewId:
        """Make an id."""
        numbering = self._numbering
        if numbering is None:
            made = NewId(uuid4())
            made.number = None
            return made
        seed, numbers = numbering
        number = next(numbers)
        self._next = number + 1
        made = NewId(numbered_id(seed, number))
        made.number = IdNumber(seed, number)
        return made

    def start_numbering(self) -> bytes:
        """Number ids from now on; return the seed. A second call changes nothing."""
        return self.change_seed() if self._numbering is None else self._numbering[0]

    def change_seed(self) -> bytes:
        """Number ids under a new seed, and return it: ids of the former seed may be in a lost window.

        The numbers go on, so that no two windows of this process have a number in common.
        """
        seed = secrets.token_bytes(SEED_BYTES)
        self._numbering = (seed, itertools.count(self._next))
        return seed

    def forget(self) -> None:
        """Make random ids again, as a process does that has just started."""
        self._numbering, self._next = None, 0


event_ids: Final = EventIds()
"""The ids of this process. All outboxes of the process share them, because an `Event` belongs to no outbox."""

# The child of a fork must not number ids under the seed of its parent.
os.register_at_fork(after_in_child=event_ids.forget)
