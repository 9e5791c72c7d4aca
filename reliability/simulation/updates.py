"""Parses updates, statements, projections and key conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from reliability.simulation.evaluation import Condition, Name, Operand, Scope, UnknownExpressionError, unite
from reliability.simulation.expressions import Dialect, Parser, Used
from reliability.simulation.values import AttributeValue


@dataclass(frozen=True, slots=True)
class Update:
    """An UpdateExpression. All of its reads see the old item."""

    assignments: tuple[tuple[Name, Operand], ...]
    additions: tuple[tuple[Name, Operand], ...]
    removals: tuple[Name, ...]
    used: Used

    def apply(self, scope: Scope) -> dict[str, AttributeValue]:
        """Make the new item."""
        item = dict(scope.item)
        written: list[str] = []
        for name, operand in self.assignments:
            value = operand(scope)
            if value is None:
                raise UnknownExpressionError("an attribute is set to an attribute that does not exist")
            written.append(name(scope))
            item[written[-1]] = value
        for name, operand in self.additions:
            added = operand(scope)
            written.append(name(scope))
            item[written[-1]] = unite(scope.item.get(written[-1]), added or {})
        for name in self.removals:
            written.append(name(scope))
            item.pop(written[-1], None)
        if len(set(written)) < len(written):
            raise UnknownExpressionError(f"Two document paths overlap with each other: {written}")
        return item


@dataclass(frozen=True, slots=True)
class Statement:
    """A PartiQL UPDATE of one item by its key."""

    table_name: str
    update: Update
    key: tuple[Name, Operand]
    condition: Condition | None
    returning: bool
    parameters: int

    def key_in(self, values: Mapping[str, AttributeValue]) -> AttributeValue:
        """Return the key of the item that it changes."""
        return self.key[1](Scope({}, {}, values)) or {}


@dataclass(frozen=True, slots=True)
class Insert:
    """A PartiQL INSERT of one item. DynamoDB refuses it if the table has an item with the same key."""

    table_name: str
    attributes: Mapping[str, Operand]
    parameters: int
    returning: bool = False

    def item_of(self, values: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
        """Make the item."""
        scope = Scope({}, {}, values)
        return {name: operand(scope) or {} for name, operand in self.attributes.items()}

    def key_in(self, values: Mapping[str, AttributeValue]) -> AttributeValue:
        """Return the key of the item, which is in the attribute `id` in all tables here."""
        return self.item_of(values).get("id", {})


@lru_cache(maxsize=512)
def parse_update(text: str) -> Update:
    """Parse an UpdateExpression."""
    parser = Parser(text, Dialect.EXPRESSION)
    update = _clauses(parser, "SET", "ADD", "REMOVE", separator=",")
    parser.end()
    return update


@lru_cache(maxsize=512)
def parse_statement(text: str) -> Statement | Insert:
    """Parse an UPDATE or an INSERT of one item.

    `UPDATE "table" SET ... REMOVE ... WHERE key = ? AND (...) RETURNING ALL NEW *`
    `INSERT INTO "table" VALUE {'name': ?, ...}`
    """
    parser = Parser(text, Dialect.PARTIQL)
    if parser.expect("UPDATE", "INSERT") == "INSERT":
        return _insert(parser)
    table_name = parser.name()
    update = _clauses(parser, "SET", "REMOVE")
    parser.expect("WHERE")
    name = parser.name()
    parser.expect("=")
    key = parser.operand()
    condition = parser.condition() if parser.accept("AND") else None
    returning = parser.accept("RETURNING") is not None
    if returning:
        for word in ("ALL", "NEW", "*"):
            parser.expect(word)
    parser.end()
    nothing = Scope({}, {}, {})
    return Statement(table_name(nothing), update, (name, key), condition, returning, len(parser.used.values))


def _insert(parser: Parser) -> Insert:
    parser.expect("INTO")
    table_name = parser.name()
    parser.expect("VALUE")
    parser.expect("{")
    attributes: dict[str, Operand] = {}
    while not attributes or parser.accept(","):
        name = parser.quoted()
        parser.expect(":")
        value = parser.value()
        if value is None or name in attributes:
            raise parser.unknown("expected a question mark for each attribute, and each attribute once")
        attributes[name] = value
    parser.expect("}")
    parser.end()
    return Insert(table_name(Scope({}, {}, {})), attributes, len(parser.used.values))


@lru_cache(maxsize=512)
def parse_projection(text: str) -> tuple[tuple[Name, ...], Used]:
    """Parse a ProjectionExpression."""
    parser = Parser(text, Dialect.EXPRESSION)
    names = [parser.name()]
    while parser.accept(","):
        names.append(parser.name())
    parser.end()
    return tuple(names), parser.used


@lru_cache(maxsize=512)
def parse_key_condition(text: str) -> tuple[tuple[tuple[Name, str, Operand], ...], Used]:
    """Parse a KeyConditionExpression: comparisons of key attributes that must all hold."""
    parser = Parser(text, Dialect.EXPRESSION)
    parts: list[tuple[Name, str, Operand]] = []
    while not parts or parser.accept("AND"):
        name = parser.name()
        sign = parser.expect("=", "<", "<=", ">", ">=")
        value = parser.value()
        if value is None:
            raise parser.unknown("expected a value")
        parts.append((name, sign, value))
    parser.end()
    return tuple(parts), parser.used


def _clauses(parser: Parser, *clauses: str, separator: str | None = None) -> Update:
    """Read the clauses of an update; PartiQL has no separator, and repeats SET for each assignment."""
    assignments: list[tuple[Name, Operand]] = []
    additions: list[tuple[Name, Operand]] = []
    removals: list[Name] = []
    while clause := parser.accept(*clauses):
        while True:
            name = parser.name()
            if clause == "SET":
                parser.expect("=")
                assignments.append((name, parser.sum()))
            elif clause == "ADD":
                additions.append((name, parser.operand()))
            else:
                removals.append(name)
            if separator is None or not parser.accept(separator):
                break
    if not assignments and not additions and not removals:
        raise parser.unknown(f"expected {', '.join(clauses)}")
    return Update(tuple(assignments), tuple(additions), tuple(removals), parser.used)
