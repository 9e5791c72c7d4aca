"""The parts of a `DynamoDBOutbox`, and how they depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.config import DynamoDBConfig
from dynamodb_outbox.dynamodb.delivering.announcements import Announcements
from dynamodb_outbox.dynamodb.delivering.claim import Claimer
from dynamodb_outbox.dynamodb.delivering.dead_letters import DeadLetters
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.delivering.membership import WorkerMembership
from dynamodb_outbox.dynamodb.delivering.recovery import Recovery
from dynamodb_outbox.dynamodb.delivering.row_selector import RowSelector
from dynamodb_outbox.dynamodb.delivering.settle import Settler
from dynamodb_outbox.dynamodb.delivering.window_recovery import WindowRecovery
from dynamodb_outbox.dynamodb.emitting.commit_transaction import Transactor
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.publish import Publisher
from dynamodb_outbox.dynamodb.schema.retention import RetentionReminder
from dynamodb_outbox.dynamodb.schema.table import Table
from dynamodb_outbox.dynamodb.shard_migration import ShardMigration
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.client import DynamoDBClient
from dynamodb_outbox.dynamodb.windows.fence import Fence
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
    publisher: Publisher
    transactor: Transactor
    membership: WorkerMembership
    rows: RowSelector
    claimer: Claimer
    recovery: Recovery
    settler: Settler
    dead_letters: DeadLetters
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
        shards, retention = config.placement, config.retention
        caller = _caller(client, config, options, observers)
        writer = ConditionalWriter(caller, config.conditional_writes, shards=shards)
        index = StatusIndex(caller, shards, former_index_name=config.former_index_name)
        table = Table(caller, config.schema)
        in_flight = TableInFlight(config.table_name)
        fence = Fence(writer, options)
        membership = WorkerMembership(Announcements(caller, options, timing), options, timing)
        rows = RowSelector(options, membership=membership, timing=timing)
        return cls(
            timing=timing,
            caller=caller,
            writer=writer,
            table=table,
            reminder=RetentionReminder(table, table_name=config.table_name, retention=retention),
            publisher=Publisher(
                caller, options, shards=shards, group_emits=config.group_emits, in_flight=in_flight, timing=timing
            ),
            transactor=Transactor(
                caller, options, shards=shards, retention=retention, in_flight=in_flight, timing=timing
            ),
            membership=membership,
            rows=rows,
            claimer=Claimer(
                index, writer, options, membership=membership, rows=rows, observers=observers, timing=timing
            ),
            recovery=Recovery(
                index,
                writer,
                options,
                timing,
                windows=WindowRecovery(caller, fence, options, timing),
            ),
            settler=Settler(writer, options, retention=retention, timing=timing),
            dead_letters=DeadLetters(caller, index, writer, options, timing),
            shard_migration=ShardMigration(index, writer, shards, timing),
        )


def _caller(client: DynamoDBClient, config: DynamoDBConfig, options: OutboxOptions, observers: Observers) -> Caller:
    return Caller(
        client=client,
        table_name=config.table_name,
        index_name=config.index_name,
        random=options.random,
        observers=observers,
    )
