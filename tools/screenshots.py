"""Take the screenshots of docs/how-to/dashboard.md: `make screenshots`. It needs Chromium (Debian: `chromium`).

The outbox is in memory, and the events are always the same. What is on the pictures is what the dashboard shows; only
the minutes of its charts pass faster.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

import uvicorn
from PIL import Image
from playwright.async_api import async_playwright

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.stored_events import EventState
from dynamodb_outbox.web import Access, Dashboard, Role
from dynamodb_outbox.web.activity import INTERVAL, POINTS, Activity
from dynamodb_outbox.web.site import Options, Site

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "images"
SHOTS: Final = {"dashboard": "/", "dashboard-dead-letters": "/dead-letters", "dashboard-event": "/event?id={failed}"}
ERRORS: Final = {
    "invoice.issued": ConnectionError("smtp.internal:25 refused the connection"),
    "order.placed": ValueError("unknown currency 'EURO'"),
    "user.created": None,
}
OUTAGE: Final = range(POINTS - 14, POINTS - 5)
"""The numbers of the events whose handlers fail."""


class EventsOutbox(InMemoryOutbox):
    """An outbox in memory that has the name of a table."""

    table_name = "events-outbox"


def _ignore(error: Exception) -> None:
    """Report nothing: that handlers fail is what the pictures show."""


def _new_bus() -> OutboxEventBus:
    bus = OutboxEventBus(EventsOutbox(max_retries=0, on_error=_ignore))

    async def handle(event: Event) -> None:
        await asyncio.sleep(0.002)
        if (error := ERRORS[event.type]) is not None and event.payload["number"] in OUTAGE:
            raise error

    for name, handler in (("invoice.issued", "send_mail"), ("order.placed", "charge"), ("user.created", "welcome")):
        bus.on(name, handle, name=handler)
    return bus


async def _run(bus: OutboxEventBus, site: Site) -> None:
    """Emit and handle events for what the charts take for half an hour. The last ones are scheduled."""
    passed = 0.0
    site.activity = Activity(clock=lambda: passed)
    bus.outbox.observers.add(site.activity)
    for number in range(POINTS):
        passed = number * INTERVAL
        for name in ERRORS:
            for part in range(round(4 + 2.5 * math.sin(number / 18)) + (number * 7 + number // 11) % 3):
                payload = {"number": number, "customer": "c-1001", "total": 1250}
                await bus.emit(name, payload, id=f"{name}-{number:04}-{part}")
        site.history.append(await bus.sample())
        while await bus.run_once():
            pass
    for number in range(7):
        await bus.emit("invoice.issued", {"number": number}, delay=3600)


async def _take(address: str, failed: str) -> None:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("screenshots: chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, target in SHOTS.items():
            for scheme in ("light", "dark"):
                page = await browser.new_page(
                    viewport={"width": 1100, "height": 700},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                await page.goto(f"{address}{target.format(failed=failed)}")
                suffix = "-dark" if scheme == "dark" else ""
                picture = await page.screenshot(full_page=True)
                # A page has few colours: a picture with a palette is a third of the size.
                Image.open(io.BytesIO(picture)).quantize(96).save(FOLDER / f"{name}{suffix}.png", optimize=True)
                await page.close()
        await browser.close()


async def main() -> None:
    """Serve a dashboard, and take a picture of each page."""
    bus = _new_bus()
    site = Site(bus.outbox, bus, Options(environment="staging"))
    await _run(bus, site)
    failed = (await bus.outbox.list_events(EventState.FAILED, limit=1)).events[0].id
    dashboard = Dashboard(
        site, authorize=lambda request: Access("ada@example.org", list(Role)), allowed_hosts=frozenset({"127.0.0.1"})
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(dashboard, lifespan="off", log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _take(f"http://127.0.0.1:{listener.getsockname()[1]}", failed)
        finally:
            server.should_exit = server.force_exit = True
            await serving


if __name__ == "__main__":
    asyncio.run(main())
