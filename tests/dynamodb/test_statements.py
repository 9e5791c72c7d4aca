"""Statements are written in the PartiQL that AWS documents; an engine that takes more proves nothing."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping

import pytest

import dynamodb_outbox.dynamodb
from dynamodb_outbox.dynamodb.conditional.rendering import statement
from dynamodb_outbox.dynamodb.conditional.transitions import BATCHED, Transition, Write, placed
from dynamodb_outbox.dynamodb.schema.shards import Shards
from reliability.partiql import reason_against

DOCUMENTED_FUNCTIONS = {
    "attribute_type",
    "begins_with",
    "contains",
    "list_append",
    "set_add",
    "set_delete",
    "size",
}


def transitions() -> Iterator[Transition]:
    """List all constants of the package and its subpackages that may be transitions, including the variants."""
    for module in pkgutil.walk_packages(dynamodb_outbox.dynamodb.__path__, "dynamodb_outbox.dynamodb."):
        for constant in vars(importlib.import_module(module.name)).values():
            members = list(constant.values()) if isinstance(constant, Mapping) else [constant]
            for member in members:
                yield from member if isinstance(member, tuple) else (member,)


NAMED = {
    f"{each.name} {number}": each
    for number, each in enumerate(
        dict.fromkeys(each for each in transitions() if isinstance(each, Transition) and each.batched)
    )
}


def rendered(transition: Transition) -> Iterator[str]:
    write = Write(transition, "e", {name: {"S": name} for name in re.findall(r":(\w+)", repr(transition))})
    for each in (write, placed(write, Shards(count=4))):
        for returning in (True, False):
            yield statement(each, table_name="outbox", returning=returning)["Statement"]


def test_every_batched_transition_is_found() -> None:
    assert set(BATCHED) <= set(NAMED.values())


@pytest.mark.parametrize("name", NAMED)
def test_statement_is_documented_partiql(name: str) -> None:
    for text in rendered(NAMED[name]):
        assert reason_against(text) is None, text
        assert {function.lower() for function in re.findall(r"(\w+)\(", text)} <= DOCUMENTED_FUNCTIONS, text


def test_grammar_refuses_what_only_emulators_take() -> None:
    update = 'UPDATE "t" SET "a" = ? WHERE id = ? AND '
    assert reason_against(update + "b IS MISSING OR b IS NOT MISSING") is None
    assert reason_against(update + "NOT contains(b, ?)") is None
    for text in (
        update + "attribute_not_exists(b)",
        update + "attribute_exists(b)",
        'UPDATE "t" SET a = if_not_exists(a, ?) + ? WHERE id = ?',
        'UPDATE "t" SET a = ?, b = ? WHERE id = ?',
        'UPDATE "t" ADD a ? WHERE id = ?',
    ):
        assert reason_against(text) is not None, text
