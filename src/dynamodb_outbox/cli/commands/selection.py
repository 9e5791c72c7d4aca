"""The dead letters that a repair is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.cli.reading import Filter, pages
from dynamodb_outbox.cli.records import time_of
from dynamodb_outbox.cli.settings import Settings, last
from dynamodb_outbox.repairs import FailedSelector
from dynamodb_outbox.stored_events import EventState, StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

MOST_COUNTED: Final = 10_000
"""How many dead letters are counted before a repair."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that a repair is for: ids, or a filter, or all."""

    ids: tuple[str, ...]
    wanted: Filter
    is_all: bool

    def checked(self) -> Selection:
        """Fix the end of the selection before it is counted and asked about, so that it takes no newer dead letters.

        Raises `Refusal` for no selection and for two of them.
        """
        has_filter = self.wanted != Filter()
        if self.ids and (has_filter or self.is_all):
            raise Refusal("name either ids or options that select, not both")
        if not self.ids and not has_filter and not self.is_all:
            raise Refusal("say which: ids, --type, --error, --handler, --group, --blocks-key, --before, or --all")
        if self.ids or self.wanted.before is not None:
            return self
        return replace(self, wanted=replace(self.wanted, before=datetime.now(UTC)))

    def command(self, settings: Settings, action: str, *extra: str) -> str:
        """Write the command that continues a repair of this selection."""
        wanted = self.wanted
        options = {
            "--type": wanted.type,
            "--error": wanted.error_type,
            "--handler": wanted.error_handler,
            "--group": wanted.group,
            "--before": time_of(wanted.before),
        }
        words = [word for name, value in options.items() if value is not None for word in (name, value)]
        words += ["--blocks-key"] if wanted.blocks_key else []
        return settings.command("failed", action, *words, *extra, *last(self.ids))

    @property
    def selected(self) -> list[str] | FailedSelector:
        """The ids, or the selector."""
        return list(self.ids) or self.wanted.selector()

    @property
    def only(self) -> Callable[[StoredEvent], bool] | None:
        """Which dead letters of the selector are meant, if a group is given, or `--blocks-key`."""
        return self.wanted.takes if self.wanted.blocks_key or self.wanted.group is not None else None

    async def read_ids(self, outbox: Outbox) -> list[str]:
        """Read the ids of the dead letters that the filter takes, `MOST_COUNTED` or a few more at most."""
        ids: list[str] = []
        async for page in pages(outbox, EventState.FAILED, type=self.wanted.type):
            ids += [event.id for event in page.events if self.wanted.takes(event)]
            if len(ids) >= MOST_COUNTED:
                break
        return ids
