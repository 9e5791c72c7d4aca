"""Write the templates: `python -m dynamodb_outbox.dynamodb.schema.templates templates`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from dynamodb_outbox.dynamodb.schema.table import TableSchema
from dynamodb_outbox.dynamodb.schema.templates.cloudformation import cloudformation
from dynamodb_outbox.dynamodb.schema.templates.iam import iam_policy
from dynamodb_outbox.dynamodb.schema.templates.parameters import DEFAULT_SCHEMA
from dynamodb_outbox.dynamodb.schema.templates.terraform import terraform

FILES: Final[Mapping[str, Callable[[TableSchema], str]]] = {
    "cloudformation.yaml": cloudformation,
    "outbox.tf": terraform,
    "iam-policy.json": iam_policy,
    "iam-emit.json": partial(iam_policy, role="emit"),
    "iam-worker.json": partial(iam_policy, role="worker"),
    "iam-observer.json": partial(iam_policy, role="observer"),
    "iam-operator.json": partial(iam_policy, role="operator"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the templates into a directory."""
    parser = argparse.ArgumentParser(
        prog="python -m dynamodb_outbox.dynamodb.schema.templates", description=main.__doc__
    )
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(arguments).directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, render in FILES.items():
        (directory / name).write_text(render(DEFAULT_SCHEMA), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
