from __future__ import annotations

import asyncio

import pytest


@pytest.fixture(autouse=True)
async def debug_mode() -> None:
    """The worker's tests run in asyncio's debug mode; those of the engines would take twice as long in it."""
    asyncio.get_running_loop().set_debug(True)
