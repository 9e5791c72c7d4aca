"""The IAM policies: one for each role, and one for a service that has all roles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from dynamodb_outbox.dynamodb.schema.table import TableSchema

Role = Literal["emit", "worker", "observer", "operator"]

_STATEMENTS: Final[Mapping[Role, Sequence[str]]] = {
    "emit": ("StoreEvents", "QueueEvents", "VerifyTable"),
    "worker": ("FindEvents", "DeliverEvents", "EmptyQueues", "KeepWindows", "ReadEvents", "VerifyTable"),
    "observer": ("FindEvents", "ReadEvents", "VerifyTable"),
    "operator": ("FindEvents", "DeliverEvents", "RepairEvents", "CheckQueues", "ReadEvents", "VerifyTable"),
}
_CONTAINED: Final = {"QueueEvents", "RepairEvents"}
"""The statements that other statements of the policy with all roles contain."""


def iam_policy(schema: TableSchema, *, role: Role | None = None) -> str:
    """Render the minimal policy for a role, or by default for a service that has all roles.

    REGION and ACCOUNT_ID are placeholders. `VerifyTable` is for `verify_table()`, and for the warning about a retention
    without time to live. `create_table()` needs more permissions; in production, create the table with a template.
    """
    table = f"arn:aws:dynamodb:REGION:ACCOUNT_ID:table/{schema.table_name}"
    statements = [
        _allow("StoreEvents", ["PutItem", "BatchWriteItem"], table),
        _allow("FindEvents", ["Query"], *(f"{table}/index/{name}" for name in schema.indexes)),
        # An event with an ordering key is appended to the queue of its key. Groups of them are INSERT statements.
        _allow("QueueEvents", ["UpdateItem", "PartiQLInsert", "BatchGetItem"], table),
        # Claims and settles are single updates, or a BatchExecuteStatement of UPDATE statements.
        _allow("DeliverEvents", ["UpdateItem", "PartiQLUpdate"], table),
        # The queue of an ordering key is deleted with its last event, and the window item with a worker that stops.
        _allow("EmptyQueues", ["PartiQLDelete", "DeleteItem"], table),
        # Tombstones and the events of a window are INSERT statements.
        _allow("KeepWindows", ["PartiQLInsert"], table),
        # The new event of a replacement, and the queue whose last event is skipped.
        _allow("RepairEvents", ["PutItem", "DeleteItem"], table),
        # An event that waits for others of its ordering key is discarded only if no worker has it.
        _allow("CheckQueues", ["ConditionCheckItem"], table),
        # Single events and pages of them, the holds, and what recovery reads of a window whose worker died.
        _allow("ReadEvents", ["BatchGetItem"], table),
        _allow("VerifyTable", ["DescribeTable", "DescribeTimeToLive"], table),
    ]
    all_sids = {sid for each in _STATEMENTS.values() for sid in each} - _CONTAINED
    sids = all_sids if role is None else _STATEMENTS[role]
    chosen = [each for each in statements if each["Sid"] in sids]
    return json.dumps({"Version": "2012-10-17", "Statement": chosen}, indent=2) + "\n"


def _allow(sid: str, operations: Sequence[str], *resources: str) -> dict[str, Any]:
    actions = [f"dynamodb:{operation}" for operation in operations]
    resource = resources[0] if len(resources) == 1 else list(resources)
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
