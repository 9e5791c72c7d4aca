"""Rules for a proxy: refuse some statements of a batch, and let an index lag."""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Any, Final

from reliability.proxy import Recorded, Reply

SHOWN: Final = 0.6
STALE: Final = 0.5
"""The chances that a lagging index shows a current row, and an older row."""


async def partly_refused(client: Any, request: Recorded, code: str, refused: Collection[int]) -> Reply:
    """Let the backend execute a part of the statements, and report the others as refused with status 200."""
    statements = request.body["Statements"]
    executed = [statement for n, statement in enumerate(statements) if n not in refused]
    responses = iter((await client.batch_execute_statement(Statements=executed))["Responses"] if executed else [])
    error = {"Error": {"Code": code, "Message": "try again"}}
    return Reply(200, {"Responses": [error if n in refused else next(responses) for n in range(len(statements))]})


class LaggingIndex:
    """A rule: queries miss current rows, and show older rows.

    Every row that a query has seen may appear again, until the lag ends.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self.missing = 0
        self.stale = 0

    def __call__(self, request: Recorded) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
        """Let the response to a query lag. A query that only counts is forwarded."""
        if request.operation != "Query" or request.body.get("Select") == "COUNT":
            return None
        status = request.body["ExpressionAttributeValues"][":status"]["S"]

        def lag(reply: dict[str, Any]) -> dict[str, Any]:
            seen = self._seen.setdefault(status, [])
            shown = [row for row in reply["Items"] if self._random.random() < SHOWN]
            self.missing += len(reply["Items"]) - len(shown)
            old = [row for row in seen if row not in reply["Items"] and self._random.random() < STALE]
            self.stale += len(old)
            seen += [row for row in reply["Items"] if row not in seen]
            items = [*old, *shown]
            return {**reply, "Items": items, "Count": len(items)}

        return lag
