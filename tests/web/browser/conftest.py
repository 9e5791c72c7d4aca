"""A real Chromium without a window, and a dashboard that it reaches over a socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from dynamodb_outbox import InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web import Access, Role, outbox_dashboard

MOUNT = "/admin/outbox"
WATCH = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
"""
TIMEOUT = 60_000
expect.set_options(timeout=TIMEOUT)


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port of this machine; yields the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="error"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await task


class Answers:
    """An ASGI application around another, which keeps what that has answered."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._queue: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def keep(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._queue.put_nowait((scope["method"], scope["path"], message["status"]))
            await send(message)

        await self._application(scope, receive, keep)

    async def status_of(self, method: str, path: str) -> int:
        """Wait for the answer to a request, and return its status."""
        while True:
            answered, where, status = await self._queue.get()
            if (answered, where) == (method, MOUNT + path):
                return status


@dataclass
class Visitor:
    """A person at a browser. Any error of a page, and any violation of its policy, is kept."""

    browser: Browser
    port: int
    answers: Answers
    errors: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{MOUNT}{path}"

    async def page(self, path: str | None = "/", *, clock: bool = False, **options: Any) -> Page:
        """Open a page in a fresh profile; `options` are those of `Browser.new_context`.

        With `clock`, no time passes in the page until the test says so.
        """
        context = await self.browser.new_context(**options)
        self.contexts.append(context)
        await context.add_init_script(WATCH)
        context.set_default_timeout(TIMEOUT)
        page = await context.new_page()
        page.on("console", self._keep_error)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        if clock:
            await page.clock.install(time=0)
            await page.clock.pause_at(1)
        if path is not None:
            await page.goto(self.url(path))
        return page

    def forgive(self, *texts: str) -> None:
        """Errors with one of these texts are what the test is about."""
        self.forgiven += texts

    async def leave(self) -> None:
        """Close all pages, and fail if one had an error that is not forgiven."""
        for context in self.contexts:
            await context.close()
        assert [error for error in self.errors if not any(text in error for text in self.forgiven)] == []

    def _keep_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, bus: OutboxEventBus) -> AsyncIterator[Visitor]:
    """A person with all roles. The test fails if a page had an error, or broke its policy."""
    app = FastAPI()
    app.mount(MOUNT, outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role)), environment="staging"))
    answers = Answers(app)
    async with serving(answers) as port:
        visitor = Visitor(browser, port, answers)
        yield visitor
        await visitor.leave()


@dataclass
class Clock:
    """The time of the outbox."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(clock: Clock) -> InMemoryOutbox:
    return InMemoryOutbox(max_retries=0, on_error=lambda error: None, clock=clock)
