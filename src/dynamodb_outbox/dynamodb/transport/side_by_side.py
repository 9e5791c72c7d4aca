"""Several calls at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio

from dynamodb_outbox.errors import StorageError

AT_ONCE: Final = 8
"""How many calls are under way at the same time, so that a table of many shards does not use up the connections."""


async def side_by_side(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Make calls, some at a time; return their results in their order. Raises the first `StorageError`."""
    results: list[Any] = [None] * len(calls)
    errors: list[StorageError] = []
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def run(index: int, call: Callable[[], Awaitable[Any]]) -> None:
        async with limiter:
            if errors:
                return
            try:
                results[index] = await call()
            except StorageError as error:
                errors.append(error)

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(run, index, call)
    if errors:
        raise errors[0]
    return results
