"""Gathers the evidence: reads side by side, each with a time limit, and goes on where one of them fails."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from dynamodb_outbox.cli.doctor.checks.schema import needs_shards
from dynamodb_outbox.cli.doctor.evidence import Assumed, Evidence
from dynamodb_outbox.cli.doctor.probing import probe
from dynamodb_outbox.cli.reading import pages, read_holds
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.dynamodb.inspecting.identity import identity
from dynamodb_outbox.dynamodb.inspecting.inspector import Inspector
from dynamodb_outbox.dynamodb.schema.templates.iam import iam_policy
from dynamodb_outbox.dynamodb.schema.templates.parameters import DEFAULT_SCHEMA
from dynamodb_outbox.errors import CredentialsError, OutboxError, TableNotFoundError, UnavailableError
from dynamodb_outbox.event_states import LISTED
from dynamodb_outbox.observers import Throttled
from dynamodb_outbox.stored_events import EventState, StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The times of the doctor, in seconds, and its clock. Tests use other ones."""

    part: float = 10.0
    """The time limit of one part of the evidence."""
    call: float = 8.0
    """The time limit of one call of the inspector; a response is waited for half of it."""
    interval: float = 5.0
    """The time between two samples, if events are late."""
    probe: float = 6.0
    """How long a worker may need to take the event of the probe."""
    clock: Callable[[], float] = time.time


EXAMPLES: Final = 50
"""How many events of a state are read."""
COUNT_LIMIT: Final = 1_000
LATE_SECONDS: Final = 30.0
"""If events are due for longer, a second sample tells whether they become fewer."""
SCANNED: Final = 20_000
ROLES: Final = ("emit", "worker", "operator")


class Gatherer:
    """Reads one part of the evidence after the other; notes the error of each part that cannot be read."""

    def __init__(self, outbox: DynamoDBOutbox, evidence: Evidence, timing: Timing) -> None:
        self._outbox = outbox
        self._inspector = Inspector(outbox, clock=timing.clock, call_seconds=timing.call)
        self._evidence = evidence
        self._timing = timing

    async def read(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """Read one part, and note its error. A part of a backend that lacks the operation is missing, too."""
        try:
            with anyio.fail_after(self._timing.part):
                return await work()
        except (OutboxError, TimeoutError) as error:
            self._evidence.errors[name] = error
        except (KeyError, TypeError, ValueError) as error:
            # An emulator may answer an operation that it does not know with anything.
            self._evidence.errors[name] = error
        return None

    async def _note(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        value = await self.read(name, work)
        if value is not None:
            setattr(self._evidence, name, tuple(value) if isinstance(value, list) else value)

    async def surroundings(self) -> bool:
        """Read what needs no event. Return whether it makes sense to go on."""
        inspector, evidence = self._inspector, self._evidence
        async with anyio.create_task_group() as group:
            group.start_soon(self._note, "connection", inspector.connection)
            group.start_soon(self._note, "table", inspector.table)
            group.start_soon(self._note, "time_to_live", inspector.time_to_live)
            group.start_soon(self._note, "point_in_time_recovery", inspector.has_point_in_time_recovery)
        stops = (UnavailableError, TableNotFoundError)
        is_lost = any(isinstance(error, stops) or is_invalid(error) for error in evidence.errors.values())
        return evidence.connection is not None or not is_lost

    async def contents(self) -> None:
        """Read the holds, the events, the workers and the permissions."""
        # The holds alone, as their read has little time; then few reads at once, as the network may be slow.
        await self._note("holds", self._holds)
        for first, second in ((self._read_events, self._read_sample), (self._read_workers, self._read_shards)):
            async with anyio.create_task_group() as group:
                group.start_soon(first)
                group.start_soon(second)
        await self._read_blocking()
        await self._note("permissions", self._permissions)

    async def _holds(self) -> Any:
        return await read_holds(self._outbox)

    async def _read_sample(self) -> None:
        await self._note("sample", self._sample)

    async def _read_events(self) -> None:
        for state in LISTED:
            await self._events(state)
            if state not in self._evidence.events:
                # The other states fail in the same way, and each would take the whole time again.
                return

    async def _read_blocking(self) -> None:
        """Read the dead letters that block their ordering keys: more pages, if the first one has too few."""
        evidence = self._evidence
        failed = evidence.events.get(EventState.FAILED)
        if failed is None:
            return
        blocking = tuple(event for event in failed if event.blocks_key)
        evidence.blocking = blocking
        if evidence.sample is not None and evidence.sample.blocked_keys.at_least > len(blocking):
            await self._note("blocking", self._blocking)

    async def _blocking(self) -> list[StoredEvent]:
        events: list[StoredEvent] = []
        examined = 0
        async for page in pages(self._outbox, EventState.FAILED):
            examined += page.examined
            events += (event for event in page.events if event.blocks_key)
            if examined >= COUNT_LIMIT:
                break
        return events

    async def _read_workers(self) -> None:
        await self._note("workers", self._inspector.workers)
        await self._note("windows", self._inspector.windows)

    async def _read_shards(self) -> None:
        if needs_shards(self._evidence):
            await self._note("emitted_shards", self._inspector.emitted_shards)
        await self._note("lags", self._inspector.shard_lags)

    async def _sample(self) -> Any:
        return await self._outbox.sample(count_limit=COUNT_LIMIT)

    async def _events(self, state: EventState) -> None:
        page = await self.read(str(state), lambda: self._outbox.list_events(state, limit=EXAMPLES))
        if page is not None:
            self._evidence.events[state] = page.events

    async def _permissions(self) -> Any:
        evidence = self._evidence
        evidence.needed = {role: actions_of(role) for role in ROLES}
        actions = dict.fromkeys(action for needed in evidence.needed.values() for action in needed)
        stored = [event.id for events in evidence.events.values() for event in events]
        return await self._inspector.permissions(list(actions), existing_id=stored[0] if stored else None)

    async def second_sample(self) -> None:
        """Read a second sample if events are late, in order to tell whether workers catch up."""
        sample = self._evidence.sample
        if sample is not None and self._timing.interval and sample.oldest_due_age > LATE_SECONDS:
            await anyio.sleep(self._timing.interval)
            await self._note("later", self._sample)

    async def deep(self) -> None:
        """Scan a part of the table."""
        await self._note("scanned", lambda: self._inspector.scan(SCANNED))

    async def identity(self) -> None:
        """Ask AWS whose credentials these are."""
        connection, settings = self._evidence.connection, self._evidence.settings
        if connection is not None:
            endpoint = connection.endpoint
            await self._note("identity", lambda: identity(settings.profile, settings.region, endpoint))

    async def probe(self) -> None:
        """Emit an event, and see whether a worker takes it."""
        await self._note("probe", lambda: probe(self._outbox, within=self._timing.probe))


def is_invalid(error: Exception) -> bool:
    """Tell whether the credentials themselves are refused, and not one action."""
    return isinstance(error, CredentialsError) and not error.reason.startswith(("AccessDenied", "NotAuthorized"))


def actions_of(role: Any) -> tuple[str, ...]:
    """Return the IAM actions that a role needs, from the template of its policy."""
    statements = json.loads(iam_policy(DEFAULT_SCHEMA, role=role))["Statement"]
    return tuple(action for statement in statements for action in statement["Action"])


def _note_throttle(evidence: Evidence, observation: object) -> None:
    if isinstance(observation, Throttled):
        evidence.throttles.append(observation.operation)


async def gather(
    settings: Settings,
    assumed: Assumed,
    timing: Timing,
    *,
    deep: bool = False,
    emit_probe: bool = False,
) -> Evidence:
    """Gather all evidence. A part that cannot be read is left out, and its error noted."""
    evidence = Evidence(settings=settings, assumed=assumed, now=datetime.now(UTC))
    async with settings.connect() as outbox:
        outbox.observers.add(lambda seen: _note_throttle(evidence, seen))
        gatherer = Gatherer(outbox, evidence, timing)
        if await gatherer.surroundings():
            await gatherer.contents()
            if deep:
                await gatherer.deep()
            if emit_probe:
                await gatherer.probe()
            await gatherer.second_sample()
            await gatherer.identity()
    return evidence
