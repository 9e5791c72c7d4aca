"""The service of the drill, in a process of its own: it handles the events of the shop until SIGTERM.

What its handlers do is said by its release: they work, fail, or wait for a server that does not answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, repeat
from typing import Final, Self

from dynamodb_outbox import DynamoDBOutbox, Event, FixedBackoff, OutboxEventBus
from examples.demo.processes import end_with_parent

REGION: Final = "us-east-1"
RETENTION: Final = 86_400.0
SLOTS: Final = 4
STOP_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 24.0
"""How long the server does not answer, in a release whose handler waits for it."""
HANDLERS: Final = {
    "order.placed": "ship_order",
    "payment.received": "book_payment",
    "invoice.requested": "send_invoice",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """What a process of the service is told: where to work, what each handler does, and its options."""

    endpoint: str
    table: str
    release: str
    handlers: Mapping[str, str]
    """`works`, `fails` or `waits`, for each type that has a handler."""
    shards: int = 1
    clock_behind: float = 0.0

    def encode(self) -> str:
        """Write them for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read them."""
        return cls(**json.loads(text))


@dataclass
class Handler:
    """Handles the events of one type, in the way of the release."""

    manner: str
    waits: Iterator[float] = field(
        # One after the other, as in a service that has run for a while: not all of them begin anew at the same time.
        default_factory=lambda: chain(
            (ANSWER_SECONDS * part / SLOTS for part in range(1, SLOTS)), repeat(ANSWER_SECONDS)
        )
    )

    async def __call__(self, event: Event) -> None:
        """Handle an event."""
        if self.manner == "fails":
            raise KeyError("currency")
        await asyncio.sleep(next(self.waits) if self.manner == "waits" else 0.02)


async def work(instructions: Instructions) -> None:
    """Deliver events until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with DynamoDBOutbox.connect(
        table_name=instructions.table,
        region_name=REGION,
        endpoint_url=instructions.endpoint,
        shards=instructions.shards,
        retention=RETENTION,
        concurrency=SLOTS,
        poll_interval=1.0,
        max_retries=100,
        clock=lambda: time.time() - instructions.clock_behind,
    ) as outbox:
        bus = OutboxEventBus(outbox)
        for event_type, manner in instructions.handlers.items():
            bus.on(event_type, Handler(manner), name=HANDLERS[event_type], backoff=FixedBackoff(15))
        await bus.start()
        logging.getLogger("orders").info(
            "release %s: handles %s", instructions.release, ", ".join(instructions.handlers)
        )
        await stop.wait()
        await bus.stop(STOP_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    end_with_parent()
    asyncio.run(work(Instructions.decode(sys.argv[1])))
