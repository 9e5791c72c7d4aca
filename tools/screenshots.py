"""Take the screenshots of docs/how-to/dashboard.md: `make screenshots`. It needs Chromium (Debian: `chromium`).

The outbox is in memory, and the events are always the same. What is on the pictures is what the dashboard shows.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

import uvicorn
from playwright.async_api import async_playwright

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.stored_events import EventState
from dynamodb_outbox.web import Access, Role, outbox_dashboard

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "images"
SHOTS: Final = {"dashboard": "/", "dashboard-dead-letters": "/dead-letters", "dashboard-event": "/event?id={failed}"}
ERRORS: Final = {
    "invoice.issued": ConnectionError("smtp.internal:25 refused the connection"),
    "order.placed": ValueError("unknown currency 'EURO'"),
    "user.created": None,
}


def _ignore(error: Exception) -> None:
    """Report nothing: that handlers fail is what the pictures show."""


async def _filled_bus() -> OutboxEventBus:
    bus = OutboxEventBus(InMemoryOutbox(max_retries=0, on_error=_ignore))

    async def handle(event: Event) -> None:
        if (error := ERRORS[event.type]) is not None and event.payload["number"] % 3 == 0:
            raise error

    for name, handler in (("invoice.issued", "send_mail"), ("order.placed", "charge"), ("user.created", "welcome")):
        bus.on(name, handle, name=handler)
    for number in range(60):
        for name in ERRORS:
            await bus.emit(name, {"number": number, "customer": "c-1001", "total": 1250}, id=f"{name}-{number:04}")
    while await bus.run_once():
        pass
    for number in range(7):
        await bus.emit("invoice.issued", {"number": number}, delay=3600)
    return bus


async def _take(address: str, failed: str) -> None:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("screenshots: chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, target in SHOTS.items():
            for scheme in ("light", "dark"):
                page = await browser.new_page(
                    viewport={"width": 1100, "height": 800},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                await page.goto(f"{address}{target.format(failed=failed)}")
                suffix = "-dark" if scheme == "dark" else ""
                await page.screenshot(path=FOLDER / f"{name}{suffix}.png", full_page=True)
                await page.close()
        await browser.close()


async def main() -> None:
    """Serve a dashboard, and take a picture of each page."""
    bus = await _filled_bus()
    failed = (await bus.outbox.list_events(EventState.FAILED, limit=1)).events[0].id
    dashboard = outbox_dashboard(
        bus, authorize=lambda request: Access("ada@example.org", list(Role)), environment="staging"
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
