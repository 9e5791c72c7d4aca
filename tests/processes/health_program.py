"""A process that tells its health from a thread: `python -m tests.processes.health_program MODE FILE`.

Each line of its output is the health as JSON. FILE is the heartbeat file. It runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

from dynamodb_outbox import Event, HealthOptions, InMemoryOutbox, OutboxEventBus

LEASE = 4.0


def show(bus: OutboxEventBus) -> None:
    print(bus.health().to_json(), flush=True)


def show_forever(bus: OutboxEventBus) -> None:
    while True:
        show(bus)
        time.sleep(0.05)


async def block(event: Event) -> None:
    time.sleep(3 * LEASE)  # noqa: ASYNC251 - the fault that the test is about


async def run(bus: OutboxEventBus, mode: str) -> None:
    await bus.start()
    if mode == "blocks":
        await bus.emit("report.requested")
    await asyncio.Event().wait()


async def fork(bus: OutboxEventBus) -> None:
    async with bus:
        if os.fork() == 0:
            show(bus)
            os._exit(0)
        os.wait()  # noqa: ASYNC222 - the child ends at once
        show(bus)


def close(bus: OutboxEventBus) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bus.start())
    show(bus)
    loop.close()
    show(bus)
    sys.stdout.flush()
    os._exit(0)  # asyncio would complain of the tasks


def main(mode: str, file: str) -> None:
    outbox = InMemoryOutbox(processing_timeout=LEASE, poll_interval=0.1, on_error=lambda error: None)
    bus = OutboxEventBus(outbox, health=HealthOptions(heartbeat_file=file))
    bus.on("report.requested", block)
    if mode == "forks":
        asyncio.run(fork(bus))
    elif mode == "closes":
        close(bus)
    else:
        threading.Thread(target=show_forever, args=(bus,), daemon=True).start()
        asyncio.run(run(bus, mode))


if __name__ == "__main__":
    main(*sys.argv[1:])
