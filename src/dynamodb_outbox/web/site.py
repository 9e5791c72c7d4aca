"""The values that every page uses: the outbox, its latest sample, and the person who asks."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.health import Health
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairing import MAX_BY_CHARS, check_reason
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.sampling import SAMPLE_SECONDS, Sampler
from dynamodb_outbox.stored_events import Sample, StoredEvent
from dynamodb_outbox.web.access import Access, Role
from dynamodb_outbox.web.activity import Activity
from dynamodb_outbox.web.cached import Cached
from dynamodb_outbox.web.dead_letters import Survey, survey
from dynamodb_outbox.web.http import HTML, Fields, Request, Response
from dynamodb_outbox.web.redaction import Redact, VisibleEvent, visible
from dynamodb_outbox.web.rendering import render

audit: Final = logging.getLogger("dynamodb_outbox.web.audit")
HISTORY: Final = 240
"""An hour of samples, if somebody looks at the dashboard all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `outbox_dashboard`."""

    redact: Redact | None = None
    environment: str | None = None
    trace_url: str | None = None
    runbook_url: str | None = None


class Site:
    """One dashboard: its outbox, and the values that all viewers share."""

    def __init__(self, outbox: Outbox, bus: OutboxEventBus | None, options: Options) -> None:
        self.outbox = outbox
        self.bus = bus
        self.options = options
        self.activity = Activity()
        self.history: deque[Sample] = deque(maxlen=HISTORY)
        self.sampler = Sampler(outbox) if bus is None else bus.sampler
        self._is_changed = False
        self._had_worker = False
        self.holds: Cached[list[Hold]] = Cached(self._read_holds, seconds=SAMPLE_SECONDS)
        self.dead_letters: Cached[Survey] = Cached(lambda: survey(outbox), seconds=SAMPLE_SECONDS)
        outbox.observers.add(self.activity)

    @property
    def table(self) -> str:
        """The name of the table, or the class of an outbox without a table."""
        return str(getattr(self.outbox, "table_name", type(self.outbox).__name__))

    def health(self) -> Health | None:
        """Return the health of the bus; None without a bus."""
        return None if self.bus is None else self.bus.health()

    def worker_health(self) -> Health | None:
        """Return the health of the bus if its worker runs, or ran: a process may only emit, and needs no worker."""
        if self.bus is None:
            return None
        self._had_worker = self._had_worker or self.bus.running
        return self.bus.health() if self._had_worker else None

    def changed(self) -> None:
        """Read everything again for the next page, and wake the worker of this process."""
        self._is_changed = True
        self.holds.forget()
        self.dead_letters.forget()
        if self.bus is not None:
            self.bus.notify()

    async def _read_holds(self) -> list[Hold]:
        return await self.outbox.holds()

    async def sample(self) -> Sample:
        """Return a sample that all viewers share, or a new one after a change. Raises `StorageError`."""
        sample = await self.sampler.get(max_age=0 if self._is_changed else None)
        self._is_changed = False
        if not self.history or self.history[-1] is not sample:
            self.history.append(sample)
        return sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of one person. `csrf` is the token for the forms of the page."""

    site: Site
    request: Request
    access: Access
    csrf: str
    form: Fields = field(default_factory=Fields)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def see(self, event: StoredEvent) -> VisibleEvent:
        """Return what this person may see of an event."""
        return visible(event, self.access, self.site.options.redact)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Render a page."""
        health = self.site.worker_health()
        html = render(
            template,
            access=self.access,
            active=self.request.path.strip("/"),
            csrf=self.csrf,
            environment=self.site.options.environment,
            has_bus=self.site.bus is not None,
            health_status=None if health is None else health.status,
            now=self.now,
            roles=Role,
            table=self.site.table,
            up=self.request.up,
            **values,
        )
        return Response.of(html, HTML, status=status)

    @property
    def by(self) -> str:
        """The person, as repairs and holds store it."""
        return self.access.user[:MAX_BY_CHARS]

    def reason(self) -> str:
        """Return the reason in the form. Raises `ConfigurationError` for an empty or a long one."""
        return check_reason(self.form.get("reason").strip())

    def log(self, action: str, **details: Any) -> None:
        """Write an action to the audit log: who, what, to which events, and the result. Never a payload."""
        written = " ".join(f"{name}={value!r}" for name, value in details.items())
        audit.info("user=%r action=%s table=%r %s", self.access.user, action, self.site.table, written)
