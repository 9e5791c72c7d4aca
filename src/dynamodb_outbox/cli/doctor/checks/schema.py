"""The keys of the table and its index: that they fit, and that the index is complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.dynamodb.inspecting.facts import NeededIndex, TableFacts
from dynamodb_outbox.dynamodb.schema.table import KEY_TYPES, PARTITION_KEY, SHARDED_INDEX, SORT_KEY

PAGE: Final = "docs/how-to/tables.md"
USABLE: Final = ("ACTIVE", "UPDATING")
NO_TABLE: Final = "not known: the table could not be described"
CHANGED: Final = "the infrastructure was changed, or the table was made by hand"


def check_index(evidence: Evidence) -> Finding:
    """Whether the index is complete."""
    table, settings = evidence.table, evidence.settings
    if table is None:
        return skip("index", NO_TABLE)
    unfinished = [index for index in table.indexes if index.status not in USABLE or index.is_backfilling]
    if not unfinished:
        return ok("index", ", ".join(index.name for index in table.indexes) or "there is no index")
    index = unfinished[0]
    again = [add_index(settings, table, needed) for needed in table.needed_indexes if needed.name == index.name]
    is_deleted = index.status == "DELETING"
    return Finding(
        check="index",
        mark=Mark.FAIL,
        title=f"the index {index.name} is {index.status}{' and BACKFILLING' if index.is_backfilling else ''}",
        evidence=("workers find an event only once the index has it",),
        cause="somebody has deleted it. It can be added again when it is gone"
        if is_deleted
        else "it was added a short time ago. DynamoDB fills it in minutes to hours; wait",
        repair=(describe(settings), *(again if is_deleted else ())),
        docs=PAGE,
    )


def check_schema(evidence: Evidence) -> Finding:
    """Whether the table has the keys and the index that the outbox needs."""
    table, settings = evidence.table, evidence.settings
    if table is None:
        return skip("schema", NO_TABLE)
    if not table.differences:
        return ok("schema", "keys, index and projection fit")
    if needs_shards(evidence):
        count = evidence.emitted_shards
        why = "the option shards of your service" if count is None else "by which the ids of waiting events were stored"
        return _finding(
            table,
            "the table has the index for shards, and this command needs the option --shards",
            "this command was not told how many shards your service has",
            [f"{settings.command('doctor')} --shards {count or 'N'}   # {why}"],
        )
    if not table.has_keys:
        return _finding(
            table,
            "the table has other keys than an outbox",
            "this is the table of something else, or it was made by hand. The keys of a table cannot be changed",
            [settings.aws("dynamodb", "list-tables"), settings.command("template", "cloudformation")],
        )
    return _judge_indexes(settings, table)


def needs_shards(evidence: Evidence) -> bool:
    """Tell whether the index is divided, and the command was not told into how many shards."""
    table = evidence.table
    return (
        evidence.settings.shards == 1
        and table is not None
        and bool(table.differences)
        and any(index.name == SHARDED_INDEX for index in table.indexes)
    )


def _judge_indexes(settings: Settings, table: TableFacts) -> Finding:
    changing = [index.name for index in table.indexes if index.status not in USABLE]
    settled = [index for index in table.needed_indexes if index.name not in changing]
    for index in settled:
        if not index.exists:
            title = f"the index {index.name} is missing"
            cause = f"somebody has deleted it, or {CHANGED}; workers find no events without it"
            return _finding(table, title, cause, [add_index(settings, table, index)])
        if not index.has_keys:
            title = f"the index {index.name} has other keys than the outbox needs"
            cause = f"{CHANGED}; emits fail, or workers find no events"
            return _finding(table, title, cause, _replace_index(settings, table, index))
    for index in settled:
        if not index.has_projection:
            title = f"the projection of the index {index.name} is neither ALL nor KEYS_ONLY"
            cause = f"{CHANGED}. Events are delivered, but a service that calls verify_table() does not start"
            return _finding(table, title, cause, _replace_index(settings, table, index), Mark.WARN)
    return ok("schema", "see index")


def _finding(table: TableFacts, title: str, cause: str, repair: Sequence[str], mark: Mark = Mark.FAIL) -> Finding:
    return Finding(
        check="schema",
        mark=mark,
        title=title,
        evidence=table.differences,
        cause=cause,
        repair=tuple(repair),
        docs=PAGE,
    )


def describe(settings: Settings) -> str:
    """Write the command that shows what DynamoDB says of the table."""
    return settings.aws("dynamodb", "describe-table", "--table-name", settings.table_name)


def add_index(settings: Settings, table: TableFacts, index: NeededIndex) -> str:
    """Write the command that adds an index to the table."""
    keys = {index.partition_key: "HASH", SORT_KEY: "RANGE"}
    definition: dict[str, Any] = {
        "IndexName": index.name,
        "KeySchema": [{"AttributeName": name, "KeyType": role} for name, role in keys.items()],
        "Projection": {"ProjectionType": "ALL"},
    }
    if table.billing == "PROVISIONED":
        units = {"ReadCapacityUnits": table.read_units, "WriteCapacityUnits": table.write_units}
        definition["ProvisionedThroughput"] = units
    return settings.aws(
        "dynamodb",
        "update-table",
        "--table-name",
        settings.table_name,
        "--attribute-definitions",
        *(f"AttributeName={name},AttributeType={KEY_TYPES[name]}" for name in (PARTITION_KEY, *keys)),
        "--global-secondary-index-updates",
        json.dumps([{"Create": definition}], separators=(",", ":")),
    )


def delete_index(settings: Settings, name: str) -> str:
    """Write the command that deletes an index of the table."""
    update = json.dumps([{"Delete": {"IndexName": name}}], separators=(",", ":"))
    return settings.aws(
        "dynamodb",
        "update-table",
        "--table-name",
        settings.table_name,
        "--global-secondary-index-updates",
        update,
    )


def _replace_index(settings: Settings, table: TableFacts, index: NeededIndex) -> list[str]:
    return [
        delete_index(settings, index.name),
        f"{describe(settings)}   # until the index is gone",
        add_index(settings, table, index),
    ]
