"""Reads the response of DescribeTable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from dynamodb_outbox.dynamodb.inspecting.facts import IndexFacts, NeededIndex, TableFacts
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, Projection, TableSchema


def read_table(table: Mapping[str, Any], schema: TableSchema) -> TableFacts:
    """Read the description of a table, and compare it with the schema that the outbox needs."""
    indexes = tuple(_index(each) for each in table.get("GlobalSecondaryIndexes", []))
    read_units, write_units = _units(table)
    known = {STATUS_INDEX, SHARDED_INDEX} - schema.indexes.keys()
    return TableFacts(
        name=table["TableName"],
        arn=table.get("TableArn", ""),
        status=table["TableStatus"],
        differences=tuple(schema.differences(table)),
        has_keys=schema.has_keys(table),
        needed_indexes=tuple(_needed(table, schema)),
        indexes=indexes,
        former_indexes=tuple(index.name for index in indexes if index.name in known),
        billing=table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED" if write_units else "?"),
        read_units=read_units,
        write_units=write_units,
        is_protected=table.get("DeletionProtectionEnabled"),
        items=table.get("ItemCount"),
        bytes=table.get("TableSizeBytes"),
        regions=tuple(replica["RegionName"] for replica in table.get("Replicas", []) if "RegionName" in replica),
    )


def _needed(table: Mapping[str, Any], schema: TableSchema) -> Iterator[NeededIndex]:
    described = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
    for name, partition_key in schema.indexes.items():
        index = described.get(name)
        yield NeededIndex(
            name=name,
            partition_key=partition_key,
            exists=index is not None,
            has_keys=index is not None and schema.has_keys(table, name),
            has_projection=index is not None and index["Projection"]["ProjectionType"] in get_args(Projection),
        )


def _index(index: Mapping[str, Any]) -> IndexFacts:
    read_units, write_units = _units(index)
    return IndexFacts(
        name=index["IndexName"],
        status=index.get("IndexStatus", "ACTIVE"),
        is_backfilling=bool(index.get("Backfilling")),
        projection=index["Projection"]["ProjectionType"],
        read_units=read_units,
        write_units=write_units,
    )


def _units(described: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Read the provisioned units. DynamoDB reports 0 for on-demand capacity."""
    throughput = described.get("ProvisionedThroughput", {})
    return throughput.get("ReadCapacityUnits") or None, throughput.get("WriteCapacityUnits") or None
