"""`DynamoDBOutbox`: its options, and one method for each method of the port."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self, Unpack, get_args

from dynamodb_outbox.bound_loop import OUTBOX_INSTEAD, BoundLoop
from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone, Recovered
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode
from dynamodb_outbox.dynamodb.config import DynamoDBConfig, OutboxKwargs
from dynamodb_outbox.dynamodb.delivering.unusable import report_unusable
from dynamodb_outbox.dynamodb.ordering.queue import holder_of, queue_id
from dynamodb_outbox.dynamodb.parts import Parts
from dynamodb_outbox.dynamodb.schema.table import Projection
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.client import (
    DynamoDBClient,
    advise_on_client,
    refuse_unusable_client,
    tuned_client,
)
from dynamodb_outbox.dynamodb.transport.sdk import warn_of_old_sdk
from dynamodb_outbox.errors import ClientClosedError, ConfigurationError, OutboxError
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observers import Observer, Observers
from dynamodb_outbox.outcome import Completed, Held, Outcome, Released
from dynamodb_outbox.port import FailedKey, Numbers, OutboxOptions, Settled, counted_status
from dynamodb_outbox.repairs import Hold, Repaired
from dynamodb_outbox.reporting import ErrorReporter, OnError, Report
from dynamodb_outbox.stored_events import EventState, Page, Sample, StoredEvent
from dynamodb_outbox.transaction import TransactionWrite
from dynamodb_outbox.validation import check_bool, check_int, check_ordering_key
from dynamodb_outbox.wording import shown


class DynamoDBOutbox:
    """An outbox in one DynamoDB table.

    `DynamoDBOutbox.connect` opens a client that is tuned for the outbox, and closes it. Raises `ConfigurationError` for
    an option out of range and for a client that is not an aiobotocore client.

    Args:
        client: An open aiobotocore DynamoDB client, such as aioboto3's. The caller closes it.
        table_name: The table. Use one table per service, so that each service finds only events that it handles.
        **options: See `OutboxKwargs`. Times are seconds.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        table_name: str,
        status_index_name: str | None = None,
        batch_size: int = 10,
        poll_interval: float = 1.0,
        max_poll_interval: float | None = None,
        processing_timeout: float = 30.0,
        max_retries: int = 5,
        base_backoff: float = 1.0,
        concurrency: int | None = None,
        claim_on_emit: bool = True,
        window: bool = True,
        numbers: Numbers = "native",
        failed_key: FailedKey = "block",
        unhandled_timeout: float | None = 3600.0,
        group_emits: bool = True,
        conditional_writes: WriteMode = "auto",
        shards: int = 1,
        former_index_name: str | None = None,
        retention: float | None = None,
        on_error: OnError | None = None,
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        config = DynamoDBConfig(
            table_name=table_name,
            status_index_name=status_index_name,
            former_index_name=former_index_name,
            shards=shards,
            conditional_writes=conditional_writes,
            group_emits=group_emits,
            retention=retention,
            window=window,
        )
        self._options = OutboxOptions(
            batch_size=batch_size,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            processing_timeout=processing_timeout,
            max_retries=max_retries,
            base_backoff=base_backoff,
            concurrency=concurrency,
            claim_on_emit=claim_on_emit,
            numbers=numbers,
            failed_key=failed_key,
            unhandled_timeout=unhandled_timeout,
            on_error=on_error,
            clock=clock,
            random=random,
        )
        refuse_unusable_client(client)
        warn_of_old_sdk()
        self._client = client
        self._config = config
        self._observers = Observers(observers)
        self._loop = BoundLoop("outbox", instead=OUTBOX_INSTEAD, on_closed=_refuse)
        self._report = ErrorReporter(on_error).report
        self._parts = Parts.compose(client, config, self._options, self._observers, timing=Timing())

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        *,
        table_name: str,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        profile_name: str | None = None,
        fast_json: bool = True,
        **options: Unpack[OutboxKwargs],
    ) -> AsyncGenerator[Self]:
        """Open a client that is tuned for the outbox, make the outbox, and close the client at the end of the block.

        The default of region, endpoint and profile is what the AWS SDK finds in its environment. `profile_name` is a
        profile of the AWS configuration. `fast_json=False` lets the SDK write and read the JSON of requests and
        responses; a batch then costs twice the CPU. Raises `ConfigurationError` for an option out of range, and if no
        region is found.
        """
        check_bool("fast_json", fast_json)
        slots = OutboxOptions(batch_size=options.get("batch_size", 10), concurrency=options.get("concurrency")).slots
        async with tuned_client(
            region_name=region_name,
            endpoint_url=endpoint_url,
            profile_name=profile_name,
            fast_json=fast_json,
            connections=slots + 8,
        ) as client:
            outbox = cls(client, table_name=table_name, **options)
            try:
                yield outbox
            finally:
                await outbox._parts.finish()

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        return self._options

    @property
    def observers(self) -> Observers:
        """The observers of this outbox."""
        return self._observers

    @property
    def table_name(self) -> str:
        """The name of the table."""
        return self._config.table_name

    async def create_table(self, *, wait: bool = True, projection: Projection = "ALL") -> None:
        """Create the table, for development; in production, use the templates.

        A table that exists and fits is left as it is; another one raises `TableMismatchError`. With `wait`, the call
        returns when the table can be used. `projection="KEYS_ONLY"` keeps payloads out of the index, which makes
        large events cheaper. With a `retention`, the call enables the table's time to live. Raises `StorageError`.
        """
        self._loop.check("outbox.create_table")
        if projection not in get_args(Projection):
            raise ConfigurationError(f"projection={shown(projection)}: it must be 'ALL' or 'KEYS_ONLY'")
        await self._parts.table.create(projection=projection, wait=wait)

    async def verify_table(self) -> None:
        """Check the keys, index, projection and time to live of the table.

        Raises `TableMismatchError` with every difference, `TableNotFoundError`, or `UnavailableError` if DynamoDB does
        not answer within ten seconds.
        """
        self._loop.check("outbox.verify_table")
        await self._parts.table.verify()

    async def move_to_shards(self, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Give every event its place in the divided index, while the table is in use.

        Run it when every process has the options `shards` and `former_index_name`; after it, the former index is not
        needed any more. Returns the number of events moved, and calls `on_progress` with it every 250 events. It may be
        repeated. Raises `StorageError`, and `ConfigurationError` without a `former_index_name`.
        """
        self._loop.check("outbox.move_to_shards")
        if self._config.former_index_name is None:
            raise ConfigurationError("move_to_shards: it needs former_index_name, the index that the table had before")
        return await self._parts.shard_migration.run(on_progress=on_progress)

    async def prepare(self) -> None:
        """Get ready for a worker: advise on the client, and probe DynamoDB before the next write.

        Raises `ClientClosedError` if the client is closed, as no look for events could succeed.
        """
        self._loop.check("outbox.prepare")
        self._parts.caller.refuse_closed("outbox.prepare")
        advise_on_client(self._client, slots=self._options.slots)
        self._parts.prepare()

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """Announce the handlers of a worker with its next claim; see `Outbox.announce_handlers`."""
        if self._parts.membership.announce_handlers(handlers):
            self._parts.rows.forget_handlers()

    async def keep_leases(self, *, report: Report) -> None:
        """Keep the window of events that are claimed on emit, until cancelled; see `Outbox.keep_leases`."""
        self._loop.check("outbox.keep_leases")
        await self._parts.keeper.run(report)

    async def retire(self) -> None:
        """Delete the window, and withdraw the announcement of a worker that stops, so that others do not warn of it.

        It also waits for releases of queues in the background.
        """
        self._loop.check("outbox.retire")
        await self._parts.retire()

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        """Store events as PENDING, due at `due_at` (epoch seconds) or now, or claimed; see `Outbox.publish`."""
        self._loop.check("outbox.publish")
        if events:
            due = self._options.clock() if due_at is None else due_at
            await self._parts.publisher.publish(events, due_at=due, emit_claim=emit_claim)

    def transact_items(self, events: Sequence[Event], *, due_at: float | None = None) -> list[dict[str, Any]]:
        """Make the `TransactItems` entries that store events, for a call of TransactWriteItems that you make.

        The events are due at `due_at` (epoch seconds) or now. Each entry has the condition that no event of the id is
        stored; an item with the status VOID is none, as it only marks an id. After the call, `bus.notify()` wakes the
        worker. Raises `InvalidEventError`, also for an event that an emit of this process is storing at the moment, and
        `TransactionTooLargeError` for more than 100 events.
        """
        return self._parts.transactor.items(events, due_at=due_at)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Make writes, store events and record a handler as done, all or nothing; see `Outbox.transact`."""
        self._loop.check("outbox.transact")
        await self._parts.transactor.transact(writes, events, done=done, emit_claim=emit_claim)
        if done is not None and done.completes:
            self._parts.reminder.completed()
            if done.claim.queue is not None:
                self._parts.exits.note_mark(done.claim)

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim up to `limit` due events; see `Outbox.claim`. Unreadable items become FAILED, and are reported."""
        self._loop.check("outbox.claim")
        poll = await self._parts.claimer.claim(limit)
        failed = await self._parts.unusable.fail(poll.unreadable, poll.without_room)
        await report_unusable(failed, report=report, default=self._report, observers=self._observers)
        return poll.claims

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False) -> list[Settled]:
        """Write outcomes, fenced by the claims' tokens; see `Outbox.settle`."""
        self._loop.check("outbox.settle")
        for claim, outcome in settlements:
            if isinstance(outcome, Released) and outcome.unhandled_since is not None:
                self._parts.rows.leave_to_others(holder_of(claim), delay=outcome.delay)
            elif isinstance(outcome, Completed):
                self._parts.reminder.completed()
            elif isinstance(outcome, Held):
                self._parts.held.note(claim.event.type)
        return await self._parts.settler.settle(settlements, keep_keys=keep_keys)

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines; see `Outbox.renew`."""
        self._loop.check("outbox.renew")
        return await self._parts.settler.renew(renewals)

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Reset the events whose lease ran out; see `Outbox.recover`."""
        self._loop.check("outbox.recover")
        await self._parts.reminder.remind()
        return await self._parts.recovery.recover(max_retries=self._options.retries_of(max_retries))

    async def count(self, status: EventStatus | str) -> int:
        """Count the events of a status, in the index and in windows; see `Outbox.count`.

        PROCESSING events of windows are counted in the first 1,000 numbers of each window, for a read unit a number,
        and in further numbers until one is found: 0 is exact.
        """
        self._loop.check("outbox.count")
        return await self._parts.dead_letters.count(counted_status(status))

    async def failed_events(self, *, type: str | None = None, limit: int = 100) -> list[FailedEvent]:
        """List the dead letters, the latest first."""
        self._loop.check("outbox.failed_events")
        return await self._parts.dead_letters.failed_events(type=type, limit=limit)

    async def get(self, id: str) -> StoredEvent | None:
        """Read an event, for one read unit for each 4 KB, and one more if it is in a window; see `Outbox.get`."""
        self._loop.check("outbox.get")
        return await self._parts.reader.get(id)

    async def get_front(self, ordering_key: str) -> StoredEvent | None:
        """Read the event at the front of a line, for about 3 read units; see `Outbox.get_front`."""
        self._loop.check("outbox.get_front")
        return await self._parts.reader.get(queue_id(check_ordering_key(ordering_key)))

    async def list_events(
        self, state: EventState | str, *, type: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """List the events of a state; see `Outbox.list_events`.

        Each event that is read costs a read unit for each 4 KB, and its row of the index. Events in windows are not
        sorted, and come before all others. They cost a read unit for each number of a window; a page reads at most
        1,000 numbers.
        """
        self._loop.check("outbox.list_events")
        check_int("limit", limit, 1, 1_000)
        return await self._parts.reader.list_events(state, type=type, after=after, limit=limit)

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        """Count the events of each state, up to `count_limit`; see `Outbox.sample`.

        The cost is at most half a read unit for each 4 KB of rows that are counted, and half a unit for each number of
        windows, of which it reads a tenth of `count_limit`. Rows are small in an index that projects KEYS_ONLY.
        """
        self._loop.check("outbox.sample")
        check_int("count_limit", count_limit, 1, 1_000_000)
        return await self._parts.reader.sample(count_limit=count_limit)

    async def redrive(self, ids: Sequence[str], *, fences: Mapping[str, str] | None = None) -> Repaired:
        """Make FAILED events PENDING again, with all their retries; see `Outbox.redrive`."""
        self._loop.check("outbox.redrive")
        return await self._parts.repairs.redrive(ids, fences=fences)

    async def skip(self, ids: Sequence[str]) -> Repaired:
        """Set events aside that block their ordering keys, each in one transaction; see `Outbox.skip`."""
        self._loop.check("outbox.skip")
        return await self._parts.repairs.skip(ids)

    async def discard(
        self, ids: Sequence[str], *, reason: str, by: str, fences: Mapping[str, str] | None = None
    ) -> Repaired:
        """Make events DISCARDED that are FAILED, PENDING, HELD or QUEUED; see `Outbox.discard`."""
        self._loop.check("outbox.discard")
        return await self._parts.repairs.discard(ids, reason=reason, by=by, fences=fences)

    async def replace(self, id: str, event: Event, *, reason: str, by: str) -> Repaired:
        """Store an event in place of another one, which becomes DISCARDED; see `Outbox.replace`."""
        self._loop.check("outbox.replace")
        return await self._parts.replacer.replace(id, event, reason=reason, by=by)

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None = None) -> None:
        """Order all workers of the table not to start events of a type, or of any type; see `Outbox.hold`."""
        self._loop.check("outbox.hold")
        await self._parts.held.hold(type, reason=reason, by=by, until=until)

    async def resume(self, type: str | None) -> int:
        """End the hold of a type, and make its HELD events PENDING; see `Outbox.resume`.

        It reads every HELD event of the table, for a read unit for each 4 KB.
        """
        self._loop.check("outbox.resume")
        return await self._parts.held.resume(type)

    async def holds(self) -> list[Hold]:
        """List the holds that are in force, for half a read unit; see `Outbox.holds`. It may be a second old."""
        self._loop.check("outbox.holds")
        return await self._parts.held.holds()


def _refuse(call: str) -> None:
    raise ClientClosedError(operation=call, reason="the event loop that it was used in is closed")
