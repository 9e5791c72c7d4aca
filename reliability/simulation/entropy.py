"""Nothing by chance: within a scope, all that the library draws or reads from its surroundings follows from a seed.

Its clock and its randomness are injected. What is left are the ids and tokens of `uuid4`, the time that a step of a
handler took, and the order of sets, which Python takes from addresses in memory.
"""

from __future__ import annotations

import gc
import logging
import os
import random as system_random
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random
from unittest import mock

from anyio._backends._asyncio import CancelScope

from dynamodb_outbox.worker.handling import blocked_loop
from reliability.simulation.loop import NumberedTask


@contextmanager
def seeded(random: Random, *, now: Callable[[], float]) -> Generator[None]:
    """Make `os.urandom` draw from `random`, time from `now`, and the order of tasks from their numbers."""
    NumberedTask.count_anew()
    logger = logging.getLogger("dynamodb_outbox")
    level = logger.level
    # What it would tell is in the history.
    logger.setLevel(logging.CRITICAL + 1)
    with (
        mock.patch.object(os, "urandom", random.randbytes),
        mock.patch.object(system_random, "_urandom", random.randbytes),  # what secrets draws from
        mock.patch.object(blocked_loop, "perf_counter", now),
        mock.patch.object(CancelScope, "__hash__", _hash_of_scope),
    ):
        try:
            yield
        finally:
            logger.setLevel(level)


def _hash_of_scope(scope: CancelScope) -> int:
    """Hash a cancel scope as the task that entered it: it is cancelled in the order of these."""
    return hash(scope._host_task)  # noqa: SLF001 - there is no other order to tell scopes by


@contextmanager
def undisturbed() -> Generator[None]:
    """Collect garbage only where it is asked for, and keep still about what coroutines do at their end."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    with warnings.catch_warnings():
        # What a simulated process that was killed had not begun is never awaited.
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        sys.unraisablehook = hook
