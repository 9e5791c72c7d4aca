"""Queues of SQS on the moto server, and a target in front of them that fails as AWS documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, Reply, refused


@dataclass
class Queue:
    """A queue, and what it received."""

    client: Any
    url: str

    async def receive_all(self) -> list[dict[str, Any]]:
        """Take all messages out of the queue."""
        taken: list[dict[str, Any]] = []
        while True:
            reply = await self.client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            )
            messages = reply.get("Messages", [])
            if not messages:
                return taken
            taken += messages
            handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            await self.client.delete_message_batch(QueueUrl=self.url, Entries=handles)

    async def received_ids(self) -> list[str]:
        """Take all messages, which are CloudEvents; return the ids of the events."""
        return [json.loads(message["Body"])["id"] for message in await self.receive_all()]


@dataclass
class FailingTarget:
    """A rule for a proxy before SQS: fails every 20th entry, and of 7 requests throttles one and cuts another.

    With `decide`, it fails entries only.
    """

    client: Any
    entries: int = 0
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    accepted: Counter[str] = field(default_factory=Counter[str])
    throttled: int = 0
    cut: int = 0
    decide: Callable[[dict[str, Any]], str | None] | None = None
    """Returns the error code of an entry, or None to accept the entry."""

    def __call__(self, request: Recorded) -> Any:
        if request.operation != "SendMessageBatch":
            return None
        self.requests += 1
        if self.decide is None and self.requests % 7 == 3:
            self.throttled += 1
            return refused("RequestThrottled", "Rate exceeded")
        if self.decide is None and self.requests % 7 == 6:
            self.cut += 1
            return CUT_AFTER if self.cut % 2 else CUT_BEFORE
        return self._answer(request)

    def _code_of(self, entry: dict[str, Any]) -> str | None:
        if self.decide is not None:
            return self.decide(entry)
        self.entries += 1
        return "InternalError" if self.entries % 20 == 7 else None

    async def _answer(self, request: Recorded) -> Reply:
        codes = {entry["Id"]: self._code_of(entry) for entry in request.body["Entries"]}
        sent = [entry for entry in request.body["Entries"] if codes[entry["Id"]] is None]
        reply: dict[str, Any] = {"Successful": [], "Failed": []}
        if sent:
            answer = await self.client.send_message_batch(QueueUrl=request.body["QueueUrl"], Entries=sent)
            reply["Successful"] = answer["Successful"]
        for entry in request.body["Entries"]:
            code, event_id = codes[entry["Id"]], json.loads(entry["MessageBody"]).get("id", "")
            if code is None:
                self.accepted[event_id] += 1
            else:
                self.failed[event_id] += 1
                sender = code != "InternalError"
                reply["Failed"].append({"Id": entry["Id"], "Code": code, "Message": "no", "SenderFault": sender})
        return Reply(200, reply)
