"""The floor: requests that were recorded or prepared, made by bare calls of aiobotocore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from benchmarks.gauge import Gauge, Usage
from benchmarks.recording import Recording, Request, unpacked


class FloorError(RuntimeError):
    """A floor did not do what it was to be compared with: the comparison would be worth nothing."""


def moved(recording: Recording, *, source: str, target: str) -> Recording:
    """Make the same requests for another table, in the state that the first one was in."""

    def arguments(request: Request) -> dict[str, Any]:
        given = unpacked(request.arguments)
        if "RequestItems" in given:
            return {**given, "RequestItems": {target: given["RequestItems"][source]}}
        if "Statements" in given:
            statements = [
                {**each, "Statement": each["Statement"].replace(source, target)} for each in given["Statements"]
            ]
            return {**given, "Statements": statements}
        return {**given, "TableName": target}

    requests = [Request(each.operation, arguments(each), each.after) for each in recording.requests]
    return Recording(requests, recording.ended)


async def replayed(client: Any, recording: Recording) -> Usage:
    """Make the requests again, each one once those are answered that were answered before it in the recording.

    So the tokens of claims are there before the writes that need them, and as many requests are under way at once
    as before. Raises `FloorError` unless every write is applied.
    """
    tasks: list[asyncio.Task[Any]] = []
    answered = 0
    with Gauge() as gauge:
        for request in recording.requests:
            while answered < request.after:
                await tasks[recording.ended[answered]]
                answered += 1
            call: Any = getattr(client, request.operation)(**request.arguments)
            tasks.append(asyncio.create_task(call))
        replies = [await task for task in tasks]
    check(replies)
    return gauge.usage


async def in_parallel(calls: Iterable[Awaitable[Any]], *, width: int) -> Usage:
    """Await calls, `width` of them at a time. Raises `FloorError` unless every write is applied."""
    waiting = iter(calls)
    replies: list[Any] = []

    async def work() -> None:
        for call in waiting:
            replies.append(await call)  # noqa: PERF401 - the workers share the iterator

    with Gauge() as gauge:
        await asyncio.gather(*(work() for _ in range(width)))
    check(replies)
    return gauge.usage


def check(replies: Iterable[Any]) -> None:
    """Raise `FloorError` for a write that was refused or left undone."""
    for reply in replies:
        if reply.get("UnprocessedItems"):
            raise FloorError("items came back unprocessed")
        if refused := [each["Error"] for each in reply.get("Responses", ()) if "Error" in each]:
            raise FloorError(f"{len(refused)} statements were refused, such as by {refused[0]}")
