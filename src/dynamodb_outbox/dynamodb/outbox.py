"""`DynamoDBOutbox`: configuration, and the composition of the adapter's parts."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, get_args

from aiobotocore.client import AioBaseClient
from botocore.client import BaseClient

from dynamodb_outbox.checks import check_bool, check_seconds
from dynamodb_outbox.dynamodb.claim import Claimer
from dynamodb_outbox.dynamodb.client import Caller, DynamoDBClient, advise_on_client, tuned_client
from dynamodb_outbox.dynamodb.dead_letters import DeadLetters
from dynamodb_outbox.dynamodb.index import StatusIndex
from dynamodb_outbox.dynamodb.peers import Peers
from dynamodb_outbox.dynamodb.publish import Publisher
from dynamodb_outbox.dynamodb.settle import Settler
from dynamodb_outbox.dynamodb.table import Projection, Table, TableSchema
from dynamodb_outbox.dynamodb.transact import Transactor
from dynamodb_outbox.dynamodb.writes import ConditionalWriter, WriteMode
from dynamodb_outbox.errors import ConfigurationError, OutboxError
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observing import EventFailed, Observer, Observers
from dynamodb_outbox.outbox import Birth, Claim, HandlerDone, OnError, OutboxOptions, Recovered
from dynamodb_outbox.outcome import Outcome
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.transaction import TransactionWrite

_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_YEAR: Final = 31_536_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDBConfig:
    """Where the events are, and how they are written. Raises `ConfigurationError`."""

    table_name: str
    status_index_name: str
    conditional_writes: WriteMode
    retention: float | None

    def __post_init__(self) -> None:
        for parameter in ("table_name", "status_index_name"):
            value = getattr(self, parameter)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise ConfigurationError(
                    f"{parameter}={value!r}: it must have 3 to 255 characters of a-z, A-Z, 0-9, '_', '-' and '.'"
                )
        if self.conditional_writes not in get_args(WriteMode):
            raise ConfigurationError(
                f"conditional_writes={self.conditional_writes!r}: it must be 'auto', 'batch' or 'single'"
            )
        if self.retention is not None:
            check_seconds("retention", self.retention, 0, 100 * _YEAR)


class DynamoDBOutbox:
    """An outbox in one DynamoDB table.

    `client` is an aiobotocore DynamoDB client, aioboto3's included; it is the caller's, and never closed here.
    `conditional_writes` sends claims and settles as batches of PartiQL statements (`"batch"`), as single
    updates (`"single"`), or finds out what the engine can (`"auto"`). `retention` lets DynamoDB's time to live
    delete completed events so many seconds after their completion. The other options are those of
    `OutboxOptions`; times are seconds. Raises `ConfigurationError` for a value out of range.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        table_name: str,
        status_index_name: str = "status-gsiSortKey-index",
        batch_size: int = 10,
        poll_interval: float = 1.0,
        max_poll_interval: float | None = None,
        processing_timeout: float = 30.0,
        max_retries: int = 5,
        base_backoff: float = 1.0,
        concurrency: int | None = None,
        claim_on_emit: bool = True,
        group_emits: bool = True,
        conditional_writes: WriteMode = "auto",
        retention: float | None = None,
        on_error: OnError | None = None,
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        config = DynamoDBConfig(
            table_name=table_name,
            status_index_name=status_index_name,
            conditional_writes=conditional_writes,
            retention=retention,
        )
        check_bool("group_emits", group_emits)
        self._options = OutboxOptions(
            batch_size=batch_size,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            processing_timeout=processing_timeout,
            max_retries=max_retries,
            base_backoff=base_backoff,
            concurrency=concurrency,
            claim_on_emit=claim_on_emit,
            on_error=on_error,
            clock=clock,
            random=random,
        )
        is_blocking = isinstance(client, BaseClient) and not isinstance(client, AioBaseClient)
        if is_blocking or not hasattr(client, "put_item") or not hasattr(client, "meta"):
            raise ConfigurationError(
                f"client={client!r}: it must be an open aiobotocore DynamoDB client (boto3's would block), such as "
                "that of `async with aioboto3.Session().client('dynamodb') as client`"
            )
        self._observers = Observers(observers)
        caller = Caller(
            client=client,
            table_name=table_name,
            index_name=status_index_name,
            random=random,
            observers=self._observers,
        )
        schema = TableSchema(table_name=table_name, index_name=status_index_name, time_to_live=retention is not None)
        index = StatusIndex(caller)
        self._client = client
        self._config = config
        self._report = ErrorReporter(on_error).report
        self._writer = ConditionalWriter(caller, conditional_writes)
        self._table = Table(caller, schema)
        self._publisher = Publisher(caller, self._options, group_emits=group_emits)
        self._transactor = Transactor(caller, self._options, retention=retention)
        self._peers = Peers(caller, self._options)
        self._claimer = Claimer(index, self._writer, self._options, peers=self._peers, observers=self._observers)
        self._settler = Settler(self._writer, self._options, retention=retention)
        self._dead_letters = DeadLetters(caller, index, self._writer, self._options)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        *,
        table_name: str,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        **options: Any,
    ) -> AsyncGenerator[Self]:
        """Make an outbox with a client of its own, tuned for it and closed at the end.

        `options` are those of the constructor; region, endpoint and credentials default to what the AWS SDK
        finds in its environment.
        """
        slots = OutboxOptions(batch_size=options.get("batch_size", 10), concurrency=options.get("concurrency")).slots
        async with tuned_client(region_name=region_name, endpoint_url=endpoint_url, connections=slots + 8) as client:
            yield cls(client, table_name=table_name, **options)

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        return self._options

    @property
    def observers(self) -> Observers:
        """Those who are told what happens."""
        return self._observers

    @property
    def table_name(self) -> str:
        """The name of the table."""
        return self._config.table_name

    async def create_table(self, *, wait: bool = True, projection: Projection = "ALL") -> None:
        """Create the table, for development; production uses the templates.

        A table that is there already and fits is left as it is, else `TableMismatchError` is raised. `wait`
        returns once the table can be used. `projection="KEYS_ONLY"` keeps payloads out of the index, which makes
        large events cheaper. With a `retention`, the table's time to live is turned on.
        """
        if projection not in get_args(Projection):
            raise ConfigurationError(f"projection={projection!r}: it must be 'ALL' or 'KEYS_ONLY'")
        await self._table.create(projection=projection, wait=wait)

    async def verify_table(self) -> None:
        """Check keys, index, projection and time to live.

        Raises `TableMismatchError` with every difference, or `TableNotFoundError`.
        """
        await self._table.verify()

    async def prepare(self) -> None:
        """Get ready for a worker: advise on the client, and probe the engine anew before the next write."""
        advise_on_client(self._client, slots=self._options.slots)
        self._writer.forget_probe()
        self._peers.introduce()

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, birth: Birth | None = None
    ) -> None:
        """Store events as PENDING, due at `due_at` (epoch seconds) or now, or claimed; see `Outbox.publish`."""
        if events:
            due = self._options.clock() if due_at is None else due_at
            await self._publisher.publish(events, due_at=due, birth=birth)

    def transact_items(self, events: Sequence[Event], *, due_at: float | None = None) -> list[dict[str, Any]]:
        """Make the `TransactItems` entries of events, due at `due_at` (epoch seconds) or now, for a call of your own.

        They carry the condition that no event of the id is stored. Once the call is made, `bus.notify()` has
        the worker look for them at once. Raises `InvalidEventError`, or `TransactionTooLargeError` beyond 100.
        """
        return self._transactor.items(events, due_at=due_at)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        birth: Birth | None = None,
    ) -> None:
        """Make writes, store events and record a handler as done, all or nothing; see `Outbox.transact`."""
        await self._transactor.transact(writes, events, done=done, birth=birth)

    async def claim(self, limit: int) -> list[Claim]:
        """Claim up to `limit` due events; see `Outbox.claim`. Unreadable items become FAILED, and are reported."""
        claims, unreadable = await self._claimer.claim(limit)
        if unreadable:
            await self._settler.set_aside([(error.event_id, token, str(error)) for token, error in unreadable])
            for _, error in unreadable:
                await self._report(error)
                if self._observers:
                    self._observers.tell(
                        EventFailed(event_id=error.event_id, event_type="?", attempt=0, error=str(error))
                    )
        return claims

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]]) -> list[OutboxError | None]:
        """Write outcomes, fenced by the claims' tokens; see `Outbox.settle`."""
        return await self._settler.settle(settlements)

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines; see `Outbox.renew`."""
        return await self._settler.renew(renewals)

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Reset the events whose lease ran out; see `Outbox.recover`."""
        return await self._claimer.recover(max_retries=self._options.retries_of(max_retries))

    async def count(self, status: EventStatus) -> int:
        """Count the events of a status in the index; COMPLETED events are not in it."""
        return await self._dead_letters.count(status)

    async def failed_events(self, *, type: str | None = None, limit: int = 100) -> list[FailedEvent]:
        """List the dead letters, the latest first."""
        return await self._dead_letters.failed_events(type=type, limit=limit)

    async def redrive(self, ids: Sequence[str]) -> int:
        """Make FAILED events PENDING again; the number that were FAILED."""
        return await self._dead_letters.redrive(ids)
