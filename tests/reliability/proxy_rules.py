"""Telling requests apart, rules for the proxy, and a handler that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from dynamodb_outbox import Event
from reliability.proxy import Recorded, Rule


def kind_of(request: Recorded) -> str:
    """What a request is to the outbox: a transition's name, or else its operation."""
    texts = [statement["Statement"] for statement in request.body.get("Statements", [])]
    texts.append(request.body.get("UpdateExpression", ""))
    text = " ".join(texts)
    if "if_not_exists(retryCount" in text:
        return "recover"
    for status, kind in ((":HELD", "hold"), (":DISCARDED", "discard")):
        if status in text:
            return kind
    for attribute, kind in (("startedOn", "claim"), ("completedOn", "complete"), ("retryCount", "retry")):
        if attribute in text:
            return kind
    if request.operation not in ("BatchExecuteStatement", "UpdateItem"):
        return request.operation
    if "status" not in text.partition("WHERE")[0].replace("#status", "status"):
        return "announce"
    if "lastError" in text:
        return "fail"
    return "renew" if _keeps_processing(request) else "release"


def _keeps_processing(request: Recorded) -> bool:
    """Whether the first status that updates set is PROCESSING: a renewal has the text of a release."""
    if statements := request.body.get("Statements"):
        return bool(statements[0]["Parameters"][0] == {"S": "PROCESSING"})
    return "#status = :PROCESSING, " in request.body.get("UpdateExpression", "")


def ids_and_tokens(request: Recorded) -> dict[str, str]:
    """The events that updates are for, and the token of each: what a claim writes, or a settle is fenced with."""
    found: dict[str, str] = {}
    for statement in request.body.get("Statements", []):
        values = [next(iter(parameter.values())) for parameter in statement["Parameters"]]
        # The id comes first in the condition; the token second in what a claim sets, and after the id else.
        place = statement["Statement"].partition(" WHERE ")[0].count("?")
        found[values[place]] = values[1 if kind_of(request) == "claim" else place + 1]
    if "Key" in request.body:
        token = request.body["ExpressionAttributeValues"].get(":token", {}).get("S", "")
        found[request.body["Key"]["id"]["S"]] = token
    return found


def first_of_each(kind: str, action: Any) -> Rule:
    """Do something to the first request of a kind about the same events, and pass on its repetition."""
    seen: set[frozenset[str]] = set()

    def rule(request: Recorded) -> Any:
        if kind_of(request) != kind:
            return None
        ids = frozenset(ids_and_tokens(request))
        if ids in seen:
            return None
        seen.add(ids)
        return action

    return rule


def every(kind: str, action: Any) -> Rule:
    """Do something to all requests of a kind."""
    return lambda request: action if kind_of(request) == kind else None


class Runs:
    """A handler that counts its calls by event, and keeps their order."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.ids.append(event.id)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.ids)


async def eventually(condition: Callable[[], Any], *, within: float = 60.0) -> None:
    """Wait for a condition; the time is only there to end a test that fails."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.005)
