"""Makes the library deterministic: within a scope, everything that it reads from its environment follows from a seed.

Its clock and its random source are injected. Three sources remain: the ids and tokens of `uuid4`, the time that a step
of a handler takes, and the order of sets, which depends on memory addresses.
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
    # The history already contains these messages.
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
    """Hash a cancel scope like the task that entered it, so that scopes are cancelled in the order of tasks."""
    return hash(scope._host_task)  # noqa: SLF001 - scopes have no other reproducible order


@contextmanager
def undisturbed() -> Generator[None]:
    """Collect garbage only on request, and ignore warnings from coroutines that are closed."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    with warnings.catch_warnings():
        # A killed process never awaits the coroutines that it had not started.
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
