"""What an installed wheel must be able to do, without the sources: `python -I smoke.py`."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from pathlib import Path

from moto.server import ThreadedMotoServer

import dynamodb_outbox
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus


async def main(endpoint: str) -> None:
    handled: list[Event] = []
    async with DynamoDBOutbox.connect(
        table_name="smoke", region_name="us-east-1", endpoint_url=endpoint, poll_interval=0.1
    ) as outbox:
        await outbox.create_table()
        await outbox.verify_table()
        bus = OutboxEventBus(outbox)

        @bus.on("user.created")
        async def greet(event: Event) -> None:
            handled.append(event)

        async with bus:
            sent = await bus.emit("user.created", {"email": "ada@example.org"})
            await bus.drain(timeout=20)
    assert handled == [sent], handled


if __name__ == "__main__":
    package = Path(dynamodb_outbox.__file__).parent
    assert "site-packages" in package.parts, f"not the installed wheel: {package}"
    assert (package / "py.typed").exists()
    os.environ |= {"AWS_ACCESS_KEY_ID": "smoke", "AWS_SECRET_ACCESS_KEY": "smoke"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    asyncio.run(main(f"http://{host}:{port}"))
    server.stop()
    print(f"smoke: dynamodb-outbox {version('dynamodb-outbox')} emits and delivers")
