"""The CloudFormation template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from dynamodb_outbox.dynamodb.schema.table import TTL_ATTRIBUTE, Projection, TableSchema
from dynamodb_outbox.dynamodb.schema.templates.parameters import (
    ABOUT_INDEX_KEYS,
    ABOUT_PROJECTION,
    ABOUT_TABLE_NAME,
    BOTH,
    DEFAULT_INDEX_KEY,
    INDEX_KEYS,
    TABLE_NAME_PATTERN,
)

_RESOURCE: Final = "OutboxTable"


def cloudformation(schema: TableSchema) -> str:
    """Render a CloudFormation template.

    Time to live is always enabled. It has no effect until a `retention` gives events the attribute.
    """
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The table of a dynamodb-outbox",
        "Parameters": {
            "TableName": {
                "Type": "String",
                "Description": ABOUT_TABLE_NAME,
                "Default": schema.table_name,
                "AllowedPattern": f"^{TABLE_NAME_PATTERN}$",
            },
            "Projection": {
                "Type": "String",
                "Description": ABOUT_PROJECTION,
                "Default": schema.projection,
                "AllowedValues": list(get_args(Projection)),
            },
            "IndexKeys": {
                "Type": "String",
                "Description": ABOUT_INDEX_KEYS,
                "Default": DEFAULT_INDEX_KEY,
                "AllowedValues": list(INDEX_KEYS),
            },
        },
        "Conditions": {
            _is_chosen(choice): {"Fn::Equals": [_Tag("!Ref IndexKeys"), choice]} for choice in INDEX_KEYS[1:]
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
    for name in ("AttributeDefinitions", "GlobalSecondaryIndexes"):
        properties[name] = _by_choice(schema, properties[name])
    return {
        **properties,
        "TimeToLiveSpecification": {"AttributeName": TTL_ATTRIBUTE, "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }


def _by_choice(schema: TableSchema, entries: Sequence[Mapping[str, Any]]) -> Any:
    """Return the entries for the chosen keys.

    The template chooses between whole lists, because some emulators do not leave out an entry that is AWS::NoValue.
    """
    fits = {key: [entry for entry in entries if _is_for(key, schema, entry)] for key in schema.indexes.values()}
    chosen: Any = fits[INDEX_KEYS[0]]
    for choice in INDEX_KEYS[1:]:
        chosen = {"Fn::If": [_is_chosen(choice), entries if choice == BOTH else fits[choice], chosen]}
    return chosen


def _is_for(key: str, schema: TableSchema, entry: Mapping[str, Any]) -> bool:
    name = entry.get("AttributeName") or schema.indexes[entry["IndexName"]]
    return name == key or name not in schema.indexes.values()


def _is_chosen(choice: str) -> str:
    return f"Is{choice[0].upper()}{choice[1:]}"


@dataclass(frozen=True, slots=True)
class _Tag:
    """A function of CloudFormation, in its short YAML form."""

    text: str


# Texts that need no quotes. YAML 1.1 reads words such as N, no and on as booleans, so they are quoted.
_PLAIN: Final = re.compile(r"[A-Za-z/](?:[\w .,;/()-]|:(?=[\w:]))*")
_BOOLEANS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _yaml_lines(node: Mapping[str, Any] | Sequence[Any], indent: int = 0) -> Iterator[str]:
    """Write YAML in block style. Supports only the types in the template: mappings, sequences, strings, booleans."""
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
        if isinstance(entry, Mapping | list):
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
