"""Ways to use a page: by clicks or by keys, with and without JavaScript, on a narrow screen in the dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import Locator, Page, expect

NARROW: Final = {"width": 320, "height": 640}


@dataclass(frozen=True)
class Manner:
    """How a person uses the pages. `options` are those of the browser."""

    by_keyboard: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


MANNERS: Final = {
    "clicks": Manner(),
    "keyboard": Manner(by_keyboard=True),
    "without JavaScript": Manner(options={"java_script_enabled": False}),
    "narrow and dark": Manner(options={"viewport": NARROW, "color_scheme": "dark"}),
}


class Person:
    """Somebody who uses a page in one manner."""

    def __init__(self, page: Page, manner: Manner) -> None:
        self.page = page
        self.has_script = manner.options.get("java_script_enabled", True)
        self._by_keyboard = manner.by_keyboard
        self._is_narrow = manner.options.get("viewport") == NARROW

    async def press(self, name: str, *, inside: str = "body") -> None:
        """Press a button, and wait for the next page."""
        await self._go(self._in(inside).get_by_role("button", name=name, exact=True).first)

    async def follow(self, name: str, *, inside: str = "body") -> None:
        """Follow a link, and wait for the next page."""
        await self._go(self._in(inside).get_by_role("link", name=name, exact=True).first)

    async def download(self, name: str) -> str:
        """Press a button that downloads a file; returns what is in it."""
        async with self.page.expect_download() as started:
            await self._activate(self.page.get_by_role("button", name=name, exact=True).first)
        return (await (await started.value).path()).read_text()

    async def check(self, label: str) -> None:
        box = self.page.get_by_label(label, exact=True)
        await (self._key(box, "Space") if self._by_keyboard else box.check())
        await expect(box).to_be_checked()

    async def write(self, label: str, text: str) -> None:
        box = self.page.get_by_label(label, exact=True)
        if self._by_keyboard:
            await self._key(box, "Control+a")
            await self.page.keyboard.insert_text(text)
        else:
            await box.fill(text)

    async def choose(self, label: str, option: str) -> None:
        box = self.page.get_by_role("combobox", name=label, exact=True)
        if self._by_keyboard:
            await self._reach(box)
            await self.page.keyboard.type(option)
        else:
            await box.select_option(option)
        await expect(box.locator("option:checked")).to_have_text(option)

    async def sees(self, text: str) -> None:
        await expect(self.page.get_by_role("main")).to_contain_text(text)

    def _in(self, inside: str) -> Locator:
        return self.page.locator(inside).first

    async def _go(self, target: Locator) -> None:
        async with self.page.expect_navigation():
            await self._activate(target)
        if self._is_narrow:
            assert await self.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], self.page.url

    async def _activate(self, target: Locator) -> None:
        await (self._key(target, "Enter") if self._by_keyboard else target.click())

    async def _key(self, target: Locator, key: str) -> None:
        await self._reach(target)
        await self.page.keyboard.press(key)

    async def _reach(self, target: Locator) -> None:
        """Press Tab until an element has the focus, and shows it."""
        await target.wait_for()
        for _ in range(250):  # a page of 50 events has three links and boxes in each row
            if await target.evaluate("element => element === document.activeElement"):
                # A focus that is not shown is of no use.
                assert await target.evaluate("element => getComputedStyle(element).outlineStyle") != "none"
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab never reaches {target}")
