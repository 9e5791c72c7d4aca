"""Renders a template by its name, for the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from dynamodb_outbox.dynamodb.schema.templates.cloudformation import cloudformation
from dynamodb_outbox.dynamodb.schema.templates.iam import Role, iam_policy
from dynamodb_outbox.dynamodb.schema.templates.parameters import DEFAULT_SCHEMA
from dynamodb_outbox.dynamodb.schema.templates.terraform import terraform


def render(name: str, *, table_name: str | None, role: str | None) -> str:
    """Render `cloudformation`, `terraform` or `iam`, for a table or with the default of its name."""
    schema = DEFAULT_SCHEMA if table_name is None else replace(DEFAULT_SCHEMA, table_name=table_name)
    if name == "iam":
        return iam_policy(schema, role=cast("Role | None", role))
    return terraform(schema) if name == "terraform" else cloudformation(schema)
