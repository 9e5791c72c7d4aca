"""The IAM policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dynamodb_outbox.dynamodb.schema.table import TableSchema


def iam_policy(schema: TableSchema) -> str:
    """Render the least policy for a role that emits and delivers events.

    REGION and ACCOUNT_ID are to be replaced. `VerifyTable` is for `verify_table()`, and for the warning of a retention
    without a time to live. What `create_table()` calls is left out: production creates the table by a template.
    """
    table = f"arn:aws:dynamodb:REGION:ACCOUNT_ID:table/{schema.table_name}"
    statements = [
        _allow("StoreEvents", ["PutItem", "BatchWriteItem"], table),
        _allow("FindEvents", ["Query"], *(f"{table}/index/{name}" for name in schema.indexes)),
        # Claims and settles are single updates, or a BatchExecuteStatement of UPDATE statements.
        _allow("DeliverEvents", ["UpdateItem", "PartiQLUpdate"], table),
        _allow("ReadFailedEvents", ["BatchGetItem"], table),
        _allow("VerifyTable", ["DescribeTable", "DescribeTimeToLive"], table),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _allow(sid: str, operations: Sequence[str], *resources: str) -> dict[str, Any]:
    actions = [f"dynamodb:{operation}" for operation in operations]
    resource = resources[0] if len(resources) == 1 else list(resources)
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
