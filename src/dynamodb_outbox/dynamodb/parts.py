"""The parts of a `DynamoDBOutbox`, and how they depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import anyio

from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.config import DynamoDBConfig
from dynamodb_outbox.dynamodb.delivering.announcements import Announcements
from dynamodb_outbox.dynamodb.delivering.claim import Claimer
from dynamodb_outbox.dynamodb.delivering.dead_letters import DeadLetters
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.delivering.membership import WorkerMembership
from dynamodb_outbox.dynamodb.delivering.queue_exits import QueueExits
from dynamodb_outbox.dynamodb.delivering.recovery import Recovery
from dynamodb_outbox.dynamodb.delivering.row_selector import RowSelector
from dynamodb_outbox.dynamodb.delivering.settle import Settler
from dynamodb_outbox.dynamodb.delivering.unusable import UnusableItems
from dynamodb_outbox.dynamodb.delivering.window_recovery import WindowRecovery
from dynamodb_outbox.dynamodb.emitting.commit_transaction import Transactor
from dynamodb_outbox.dynamodb.emitting.forms import Forms
from dynamodb_outbox.dynamodb.emitting.handler_record import HandlerRecords
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.ordered_events import OrderedEvents
from dynamodb_outbox.dynamodb.emitting.publish import Publisher
from dynamodb_outbox.dynamodb.emitting.transaction_contents import ContentsEncoder
from dynamodb_outbox.dynamodb.operating.discards import Discards
from dynamodb_outbox.dynamodb.operating.held_events import HeldEvents
from dynamodb_outbox.dynamodb.operating.holds_item import HoldsItem
from dynamodb_outbox.dynamodb.operating.line_plans import LinePlans
from dynamodb_outbox.dynamodb.operating.line_repairs import LineRepairs
from dynamodb_outbox.dynamodb.operating.line_replacing import LineReplacer
from dynamodb_outbox.dynamodb.operating.repairs import Repairs
from dynamodb_outbox.dynamodb.operating.replacing import Replacer
from dynamodb_outbox.dynamodb.ordering.append_writer import AppendWriter
from dynamodb_outbox.dynamodb.ordering.claims_on_emit import ClaimsOnEmit
from dynamodb_outbox.dynamodb.ordering.fronts import Fronts
from dynamodb_outbox.dynamodb.ordering.late_completions import LateCompletions
from dynamodb_outbox.dynamodb.ordering.lines import Lines
from dynamodb_outbox.dynamodb.ordering.popping import Popper
from dynamodb_outbox.dynamodb.ordering.repair_writes import RepairWrites
from dynamodb_outbox.dynamodb.ordering.standing import Standings
from dynamodb_outbox.dynamodb.reading.reader import Reader
from dynamodb_outbox.dynamodb.schema.retention import RetentionReminder
from dynamodb_outbox.dynamodb.schema.table import Table
from dynamodb_outbox.dynamodb.shard_migration import ShardMigration
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.client import DynamoDBClient
from dynamodb_outbox.dynamodb.windows.fence import Fence
from dynamodb_outbox.dynamodb.windows.keeper import WindowKeeper
from dynamodb_outbox.dynamodb.windows.opening import Opener
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.port import OutboxOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a `DynamoDBOutbox`."""

    timing: Timing
    caller: Caller
    writer: ConditionalWriter
    table: Table
    reminder: RetentionReminder
    opener: Opener
    fence: Fence
    keeper: WindowKeeper
    publisher: Publisher
    transactor: Transactor
    claims: ClaimsOnEmit
    membership: WorkerMembership
    rows: RowSelector
    claimer: Claimer
    recovery: Recovery
    settler: Settler
    exits: QueueExits
    unusable: UnusableItems
    dead_letters: DeadLetters
    repairs: Repairs
    replacer: Replacer
    held: HeldEvents
    reader: Reader
    shard_migration: ShardMigration

    @classmethod
    def compose(
        cls,
        client: DynamoDBClient,
        config: DynamoDBConfig,
        options: OutboxOptions,
        observers: Observers,
        *,
        timing: Timing,
    ) -> Self:
        """Make the parts. They share one caller of DynamoDB and one writer of transitions."""
        shards = config.placement
        caller = _caller(client, config, options, observers)
        writer = ConditionalWriter(caller, config.conditional_writes, shards=shards)
        index = StatusIndex(caller, shards, former_index_name=config.former_index_name)
        table = Table(caller, config.schema)
        fence = Fence(writer, options)
        fronts, exits = _ordering_parts(caller, writer, config, options, timing=timing)
        membership, rows, claimer = _claiming_parts(
            caller, index, writer, options, observers, fronts=fronts, timing=timing
        )
        opener = Opener(caller, writer, options, shards=shards)
        keeper = WindowKeeper(caller, writer, options, opener=opener, fence=fence, timing=timing, enabled=config.window)
        claims = ClaimsOnEmit(caller, fronts, options, timing=timing)
        publisher, transactor = _emitting_parts(
            caller, writer, config, options, keeper=keeper, claims=claims, timing=timing
        )
        repairs, replacer = _repairing_parts(caller, writer, config, options, timing=timing)
        held = HeldEvents(HoldsItem(caller, options, timing), caller, index, writer, options=options, timing=timing)
        return cls(
            timing=timing,
            caller=caller,
            writer=writer,
            table=table,
            reminder=RetentionReminder(table, table_name=config.table_name, retention=config.retention),
            opener=opener,
            fence=fence,
            keeper=keeper,
            publisher=publisher,
            transactor=transactor,
            claims=claims,
            membership=membership,
            rows=rows,
            claimer=claimer,
            recovery=Recovery(
                index, writer, options, timing, windows=WindowRecovery(caller, fence, options, timing), held=held
            ),
            settler=Settler(writer, options, keeper=keeper, exits=exits, retention=config.retention, timing=timing),
            exits=exits,
            unusable=UnusableItems(writer, exits, options, timing),
            dead_letters=DeadLetters(caller, index, options, timing),
            repairs=repairs,
            held=held,
            replacer=replacer,
            reader=Reader(caller, index, options, timing),
            shard_migration=ShardMigration(index, writer, shards, timing),
        )

    def prepare(self) -> None:
        """Get ready for a worker: permissions and handlers may have changed since the last start of a worker."""
        self.writer.forget_probe()
        self.opener.forget()
        self.fence.forget()
        self.keeper.prepare()
        self.reminder.begin()
        self.rows.forget_handlers()
        self.membership.announce()

    async def retire(self) -> None:
        """End the window, the announcement and the releases of a worker, side by side, as there is little time."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.keeper.retire)
            group.start_soon(self.membership.retire)
            group.start_soon(self.claims.finish)

    async def finish(self) -> None:
        """Wait for writes that go on without their callers: they need the client until they are answered."""
        with anyio.move_on_after(self.timing.batch_response, shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(self.publisher.finish)
                group.start_soon(self.claims.finish)


def _ordering_parts(
    caller: Caller, writer: ConditionalWriter, config: DynamoDBConfig, options: OutboxOptions, *, timing: Timing
) -> tuple[Fronts, QueueExits]:
    shards = config.placement
    popper = Popper(caller, writer, options, shards)
    fronts = Fronts(caller, writer, popper, options, timing)
    writes = RepairWrites(config.table_name, shards, clock=options.clock)
    late = LateCompletions(caller, writes, within=timing.late_settle)
    return fronts, QueueExits(popper, fronts, options, caller=caller, shards=shards, late=late, timing=timing)


def _claiming_parts(
    caller: Caller,
    index: StatusIndex,
    writer: ConditionalWriter,
    options: OutboxOptions,
    observers: Observers,
    *,
    fronts: Fronts,
    timing: Timing,
) -> tuple[WorkerMembership, RowSelector, Claimer]:
    membership = WorkerMembership(Announcements(caller, options, timing), options, timing)
    rows = RowSelector(options, membership=membership, timing=timing)
    claimer = Claimer(
        index, writer, options, membership=membership, rows=rows, fronts=fronts, observers=observers, timing=timing
    )
    return membership, rows, claimer


def _emitting_parts(
    caller: Caller,
    writer: ConditionalWriter,
    config: DynamoDBConfig,
    options: OutboxOptions,
    *,
    keeper: WindowKeeper,
    claims: ClaimsOnEmit,
    timing: Timing,
) -> tuple[Publisher, Transactor]:
    in_flight, shards = TableInFlight(config.table_name), config.placement
    forms = Forms(keeper, writer, options, shards=shards, timing=timing)
    lines = Lines(AppendWriter(caller, options, claims=claims, shards=shards, timing=timing), timing=timing)
    publisher = Publisher(
        caller,
        options,
        forms=forms,
        ordered=OrderedEvents(lines),
        shards=shards,
        group_emits=config.group_emits,
        in_flight=in_flight,
        timing=timing,
    )
    records = HandlerRecords(options, table_name=config.table_name, shards=shards, retention=config.retention)
    transactor = Transactor(
        caller,
        options,
        forms=forms,
        lines=lines,
        claims=claims,
        encoder=ContentsEncoder(options, forms=forms, claims=claims, records=records, shards=shards),
        in_flight=in_flight,
        timing=timing,
    )
    return publisher, transactor


def _repairing_parts(
    caller: Caller, writer: ConditionalWriter, config: DynamoDBConfig, options: OutboxOptions, *, timing: Timing
) -> tuple[Repairs, Replacer]:
    discards, shards = Discards(options, retention=config.retention), config.placement
    writes = RepairWrites(config.table_name, shards, clock=options.clock)
    plans, standings = LinePlans(writes, discards), Standings(caller, within=timing.operator)
    lines = LineRepairs(caller, standings, timing)
    repairs = Repairs(caller, writer, options, timing, discards=discards, plans=plans, lines=lines)
    replacing = LineReplacer(standings, lines, plans, writes, numbers=options.numbers)
    return repairs, Replacer(caller, options, timing, discards=discards, shards=shards, lines=replacing)


def _caller(client: DynamoDBClient, config: DynamoDBConfig, options: OutboxOptions, observers: Observers) -> Caller:
    return Caller(
        client=client,
        table_name=config.table_name,
        index_name=config.index_name,
        random=options.random,
        observers=observers,
    )
