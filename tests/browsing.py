"""Starts a real Chromium, without a window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

NAMES = ("dash.internal", "evil.internal")
"""Names of this machine that Chromium does not trust as it trusts localhost: it sends them no Sec-Fetch-Site."""
RESOLVE = ",".join(f"MAP {name} 127.0.0.1" for name in NAMES)
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--host-resolver-rules={RESOLVE}")


@asynccontextmanager
async def running_chromium(path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        await browser.close()
