"""Counts the tasks, connections and requests of a worker, with private attributes of aiobotocore."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

_NAMES = ("dynamodb-outbox", "dynamodb_outbox")


def tasks_left() -> tuple[str, ...]:
    """Name the unfinished tasks of the library in the running loop, without the current task."""
    asking = asyncio.current_task()
    return tuple(sorted(_text_of(task) for task in asyncio.all_tasks() if task is not asking and _is_ours(task)))


def connections_in_use(client: Any) -> int:
    """Count the connections of an aiobotocore client that a request holds."""
    endpoint = getattr(client, "_endpoint", None)
    sessions: dict[Any, Any] = getattr(getattr(endpoint, "http_session", None), "_sessions", {})
    return sum(len(getattr(session.connector, "_acquired", ())) for session in sessions.values())


class Calls:
    """Counts the requests that a client sends, by their operations."""

    def __init__(self, client: Any) -> None:
        self.counter: Counter[str] = Counter()
        client.meta.events.register("before-send.dynamodb", self._count, unique_id=self)

    def _count(self, request: Any, **_: Any) -> None:
        self.counter[request.headers["X-Amz-Target"].decode().rpartition(".")[2]] += 1


def _is_ours(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return task.get_name().startswith(_NAMES) or (code is not None and "/dynamodb_outbox/" in code.co_filename)


def _text_of(task: asyncio.Task[Any]) -> str:
    return f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', '')}"
