"""Definitions of tables that differ from what the library makes."""

from __future__ import annotations

from typing import Any


def raw_table(name: str, **changes: Any) -> dict[str, Any]:
    """The definition of a table, with one thing different."""
    definition: dict[str, Any] = {
        "TableName": name,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
            {"AttributeName": "gsiSortKey", "AttributeType": "N"},
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "status-gsiSortKey-index",
                "KeySchema": [
                    {"AttributeName": "status", "KeyType": "HASH"},
                    {"AttributeName": "gsiSortKey", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }
    return {key: value for key, value in (definition | changes).items() if value is not None}
