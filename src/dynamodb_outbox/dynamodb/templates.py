"""Infrastructure templates, rendered from the schema of the table.

`python -m dynamodb_outbox.dynamodb.templates templates` writes them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from dynamodb_outbox.dynamodb.table import TTL_ATTRIBUTE, Projection, TableSchema

DEFAULT_SCHEMA: Final = TableSchema(table_name="events-outbox", index_name="status-gsiSortKey-index")

_RESOURCE: Final = "OutboxTable"
_TABLE_NAME_PATTERN: Final = "[a-zA-Z0-9_.-]{3,255}"
_ABOUT_TABLE_NAME: Final = "The table_name of the DynamoDBOutbox"
_ABOUT_PROJECTION: Final = "What the index holds of an event; KEYS_ONLY makes large events cheaper"


def cloudformation(schema: TableSchema) -> str:
    """Render a CloudFormation template.

    Time to live is always enabled: it does nothing until a `retention` lets events have the attribute.
    """
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The table of a dynamodb-outbox",
        "Parameters": {
            "TableName": {
                "Type": "String",
                "Description": _ABOUT_TABLE_NAME,
                "Default": schema.table_name,
                "AllowedPattern": f"^{_TABLE_NAME_PATTERN}$",
            },
            "Projection": {
                "Type": "String",
                "Description": _ABOUT_PROJECTION,
                "Default": schema.projection,
                "AllowedValues": list(get_args(Projection)),
            },
        },
        "Resources": {
            _RESOURCE: {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": _table_properties(schema),
            }
        },
        "Outputs": {
            "TableName": {"Description": "The name of the table", "Value": _Tag(f"!Ref {_RESOURCE}")},
            "TableArn": {"Description": "The ARN of the table", "Value": _Tag(f"!GetAtt {_RESOURCE}.Arn")},
        },
    }
    return "\n".join(_yaml_lines(template)) + "\n"


def _table_properties(schema: TableSchema) -> dict[str, Any]:
    properties = schema.definition()
    properties["TableName"] = _Tag("!Ref TableName")
    for index in properties["GlobalSecondaryIndexes"]:
        index["Projection"] = {"ProjectionType": _Tag("!Ref Projection")}
    return {
        **properties,
        "TimeToLiveSpecification": {"AttributeName": TTL_ATTRIBUTE, "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }


def terraform(schema: TableSchema) -> str:
    """Render a Terraform file, formatted as `terraform fmt` does."""
    return "\n".join([*_hcl_variables(schema), *_hcl_table(schema), *_hcl_outputs()])


def _hcl_variables(schema: TableSchema) -> Iterator[str]:
    choices = ", ".join(_quoted(choice) for choice in get_args(Projection))
    yield f"""\
# The table of a dynamodb-outbox.

variable "table_name" {{
  description = {_quoted(_ABOUT_TABLE_NAME)}
  type        = string
  default     = {_quoted(schema.table_name)}
}}

variable "projection" {{
  description = {_quoted(_ABOUT_PROJECTION)}
  type        = string
  default     = {_quoted(schema.projection)}

  validation {{
    condition     = contains([{choices}], var.projection)
    error_message = "The projection must be one of {", ".join(get_args(Projection))}."
  }}
}}
"""


def _hcl_table(schema: TableSchema) -> Iterator[str]:
    definition = schema.definition()
    yield 'resource "aws_dynamodb_table" "outbox" {'
    billing = {"billing_mode": _quoted(definition["BillingMode"])}
    yield _hcl_arguments({"name": "var.table_name", **billing, **_hcl_keys(definition)}, indent=2)
    for attribute in definition["AttributeDefinitions"]:
        arguments = {"name": _quoted(attribute["AttributeName"]), "type": _quoted(attribute["AttributeType"])}
        yield _hcl_block("attribute", arguments)
    for index in definition["GlobalSecondaryIndexes"]:
        arguments = {
            "name": _quoted(index["IndexName"]),
            **_hcl_keys(index),
            "projection_type": "var.projection",
        }
        yield _hcl_block("global_secondary_index", arguments)
    yield "\n  # It does nothing until a retention lets events have the attribute."
    yield _hcl_block("ttl", {"attribute_name": _quoted(TTL_ATTRIBUTE), "enabled": "true"}).removeprefix("\n")
    yield _hcl_block("point_in_time_recovery", {"enabled": "true"})
    yield _hcl_block("lifecycle", {"prevent_destroy": "true"})
    yield "}\n"


def _hcl_outputs() -> Iterator[str]:
    yield """\
output "table_name" {
  description = "The name of the table"
  value       = aws_dynamodb_table.outbox.name
}

output "table_arn" {
  description = "The ARN of the table"
  value       = aws_dynamodb_table.outbox.arn
}
"""


def _hcl_keys(keyed: Mapping[str, Any]) -> dict[str, str]:
    return {f"{key['KeyType'].lower()}_key": _quoted(key["AttributeName"]) for key in keyed["KeySchema"]}


def _hcl_block(name: str, arguments: Mapping[str, str]) -> str:
    return f"\n  {name} {{\n{_hcl_arguments(arguments, indent=4)}\n  }}"


def _hcl_arguments(arguments: Mapping[str, str], *, indent: int) -> str:
    width = max(map(len, arguments))
    return "\n".join(f"{' ' * indent}{name:<{width}} = {value}" for name, value in arguments.items())


def _quoted(text: str) -> str:
    return json.dumps(text)


def iam_policy(schema: TableSchema) -> str:
    """Render the least policy for a role that emits and delivers events.

    REGION and ACCOUNT_ID are to be replaced. `VerifyTable` is for `verify_table()` only. What `create_table()`
    calls is left out: production creates the table by a template.
    """
    table = f"arn:aws:dynamodb:REGION:ACCOUNT_ID:table/{schema.table_name}"
    statements = [
        _allow("StoreEvents", ["PutItem", "BatchWriteItem"], table),
        _allow("FindEvents", ["Query"], f"{table}/index/{schema.index_name}"),
        # Claims and settles are single updates, or a BatchExecuteStatement of UPDATE statements.
        _allow("DeliverEvents", ["UpdateItem", "PartiQLUpdate"], table),
        _allow("ReadFailedEvents", ["BatchGetItem"], table),
        _allow("VerifyTable", ["DescribeTable", "DescribeTimeToLive"], table),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _allow(sid: str, operations: Sequence[str], resource: str) -> dict[str, Any]:
    actions = [f"dynamodb:{operation}" for operation in operations]
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}


@dataclass(frozen=True, slots=True)
class _Tag:
    """A function of CloudFormation, in its short YAML form."""

    text: str


# Plain where no reader can take it for something else; YAML 1.1 reads words such as N, no and on as booleans.
_PLAIN: Final = re.compile(r"[A-Za-z/](?:[\w .,;/()-]|:(?=[\w:]))*")
_BOOLEANS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _yaml_lines(node: Mapping[str, Any] | Sequence[Any], indent: int = 0) -> Iterator[str]:
    """Write block style YAML of mappings, sequences, strings and booleans: no more than the template has."""
    margin = " " * indent
    if isinstance(node, Mapping):
        for key, value in node.items():
            if indent == 0 and key != next(iter(node)) and isinstance(value, Mapping):
                yield ""
            if isinstance(value, Mapping | list):
                yield f"{margin}{key}:"
                yield from _yaml_lines(value, indent + 2)
            else:
                yield f"{margin}{key}: {_yaml_scalar(value)}"
        return
    for entry in node:
        if isinstance(entry, Mapping):
            first, *others = _yaml_lines(entry, indent + 2)
            yield f"{margin}- {first.lstrip()}"
            yield from others
        else:
            yield f"{margin}- {_yaml_scalar(entry)}"


def _yaml_scalar(value: object) -> str:
    match value:
        case _Tag(text):
            return text
        case str() if _PLAIN.fullmatch(value) and value.lower() not in _BOOLEANS:
            return value
        case _:
            return json.dumps(value)


FILES: Final = {
    "cloudformation.yaml": cloudformation,
    "outbox.tf": terraform,
    "iam-policy.json": iam_policy,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the templates into a directory."""
    parser = argparse.ArgumentParser(prog="python -m dynamodb_outbox.dynamodb.templates", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(arguments).directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, render in FILES.items():
        (directory / name).write_text(render(DEFAULT_SCHEMA), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
