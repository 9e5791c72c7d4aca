"""The Terraform file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from dynamodb_outbox.dynamodb.schema.table import SORT_KEY, TTL_ATTRIBUTE, Projection, TableSchema
from dynamodb_outbox.dynamodb.schema.templates.parameters import (
    ABOUT_INDEX_KEYS,
    ABOUT_PROJECTION,
    ABOUT_TABLE_NAME,
    BOTH,
    DEFAULT_INDEX_KEY,
    INDEX_KEYS,
)


def terraform(schema: TableSchema) -> str:
    """Render a Terraform file, formatted as `terraform fmt` does."""
    return "\n".join([*_variables(schema), *_locals(schema), *_table(schema), *_outputs()])


def _variables(schema: TableSchema) -> Iterator[str]:
    yield f"""\
# The table of a dynamodb-outbox.

variable "table_name" {{
  description = {_quoted(ABOUT_TABLE_NAME)}
  type        = string
  default     = {_quoted(schema.table_name)}
}}
"""
    yield _choice("projection", get_args(Projection), about=ABOUT_PROJECTION, default=schema.projection)
    yield _choice("index_keys", INDEX_KEYS, about=ABOUT_INDEX_KEYS, default=DEFAULT_INDEX_KEY)


def _choice(name: str, choices: Sequence[str], *, about: str, default: str) -> str:
    return f"""\
variable "{name}" {{
  description = {_quoted(about)}
  type        = string
  default     = {_quoted(default)}

  validation {{
    condition     = contains([{", ".join(map(_quoted, choices))}], var.{name})
    error_message = "The {name} must be one of {", ".join(choices)}."
  }}
}}
"""


def _locals(schema: TableSchema) -> Iterator[str]:
    keys = ", ".join(map(_quoted, schema.indexes.values()))
    yield f"""\
locals {{
  index_keys = var.index_keys == {_quoted(BOTH)} ? [{keys}] : [var.index_keys]
}}
"""


def _table(schema: TableSchema) -> Iterator[str]:
    definition = schema.definition()
    yield 'resource "aws_dynamodb_table" "outbox" {'
    billing = {"billing_mode": _quoted(definition["BillingMode"])}
    yield _arguments({"name": "var.table_name", **billing, **_keys(definition)}, indent=2)
    for attribute in definition["AttributeDefinitions"]:
        if attribute["AttributeName"] not in schema.indexes.values():
            arguments = {"name": _quoted(attribute["AttributeName"]), "type": _quoted(attribute["AttributeType"])}
            yield _block("attribute", arguments)
    yield _for_each_key("attribute", {"name": "attribute.value", "type": _quoted("S")})
    index = {
        "name": _quoted("${global_secondary_index.value}-gsiSortKey-index"),
        "hash_key": "global_secondary_index.value",
        "range_key": _quoted(SORT_KEY),
        "projection_type": "var.projection",
    }
    yield _for_each_key("global_secondary_index", index)
    yield "\n  # It has no effect until a retention gives events the attribute."
    yield _block("ttl", {"attribute_name": _quoted(TTL_ATTRIBUTE), "enabled": "true"}).removeprefix("\n")
    yield _block("point_in_time_recovery", {"enabled": "true"})
    yield _block("lifecycle", {"prevent_destroy": "true"})
    yield "}\n"


def _outputs() -> Iterator[str]:
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


def _keys(keyed: Mapping[str, Any]) -> dict[str, str]:
    return {f"{key['KeyType'].lower()}_key": _quoted(key["AttributeName"]) for key in keyed["KeySchema"]}


def _block(name: str, arguments: Mapping[str, str]) -> str:
    return f"\n  {name} {{\n{_arguments(arguments, indent=4)}\n  }}"


def _arguments(arguments: Mapping[str, str], *, indent: int) -> str:
    width = max(map(len, arguments))
    return "\n".join(f"{' ' * indent}{name:<{width}} = {value}" for name, value in arguments.items())


def _quoted(text: str) -> str:
    return json.dumps(text)


def _for_each_key(name: str, arguments: Mapping[str, str]) -> str:
    return f"""
  dynamic "{name}" {{
    for_each = local.index_keys

    content {{
{_arguments(arguments, indent=6)}
    }}
  }}"""
