"""Reads the response of DescribeTable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamodb_outbox.dynamodb.inspecting.facts import IndexFacts, TableFacts
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, TableSchema


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
