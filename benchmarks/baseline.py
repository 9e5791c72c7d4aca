"""The baseline: recorded or prepared requests, made by bare calls of aiobotocore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from benchmarks.measure import Measure, Usage
from benchmarks.recording import Recording, Request, unpacked


class BaselineError(RuntimeError):
    """A baseline did not apply the same writes as the library, so the two cannot be compared."""


def moved(recording: Recording, *, source: str, target: str) -> Recording:
    """Return the same requests for another table, which must be in the state of the first table."""

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
    """Make the requests again, in the order of the recording.

    Each request waits for the responses that came before it in the recording. So a claim writes its token before other
    writes need it, and the number of concurrent requests is the same. Raises `BaselineError` unless every write is
    applied.
    """
    tasks: list[asyncio.Task[Any]] = []
    answered = 0
    with Measure() as measured:
        for request in recording.requests:
            while answered < request.after:
                await tasks[recording.ended[answered]]
                answered += 1
            call: Any = getattr(client, request.operation)(**request.arguments)
            tasks.append(asyncio.create_task(call))
        replies = [await task for task in tasks]
    check(replies)
    return measured.usage


async def in_parallel(calls: Iterable[Awaitable[Any]], *, width: int) -> Usage:
    """Await calls, at most `width` at a time. Raises `BaselineError` unless every write is applied."""
    waiting = iter(calls)
    replies: list[Any] = []

    async def work() -> None:
        for call in waiting:
            replies.append(await call)  # noqa: PERF401 - the workers share the iterator

    with Measure() as measured:
        await asyncio.gather(*(work() for _ in range(width)))
    check(replies)
    return measured.usage


def check(replies: Iterable[Any]) -> None:
    """Raise `BaselineError` for a write that was refused or left undone."""
    for reply in replies:
        if reply.get("UnprocessedItems"):
            raise BaselineError("DynamoDB Local left items unprocessed")
        if refused := [each["Error"] for each in reply.get("Responses", ()) if "Error" in each]:
            raise BaselineError(f"{len(refused)} statements were refused, the first with {refused[0]}")
