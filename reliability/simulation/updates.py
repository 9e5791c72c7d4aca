"""Parses updates, statements, projections and key conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from reliability.simulation.evaluation import Condition, Name, Operand, Path, Scope, UnknownExpressionError, unite
from reliability.simulation.expressions import Dialect, Parser, Used
from reliability.simulation.responses import INVALID, Refusal
from reliability.simulation.values import AttributeValue, Item


@dataclass(frozen=True, slots=True)
class Update:
    """An UpdateExpression. All of its reads see the old item."""

    assignments: tuple[tuple[Path, Operand], ...]
    additions: tuple[tuple[Path, Operand], ...]
    removals: tuple[Path, ...]
    used: Used

    def apply(self, scope: Scope) -> dict[str, AttributeValue]:
        """Make the new item."""
        self._check_paths(scope)
        item = dict(scope.item)
        for path, operand in self.assignments:
            value = operand(scope)
            if value is None:
                raise UnknownExpressionError("an attribute is set to an attribute that does not exist")
            _put(item, path, value, scope)
        for path, operand in self.additions:
            _put(item, path, unite(path.value(scope), operand(scope) or {}), scope)
        # The last members of a list first, so that the indexes of the others stay as they are.
        for path in sorted(self.removals, key=lambda path: path.index or 0, reverse=True):
            _remove(item, path, scope)
        return item

    def _check_paths(self, scope: Scope) -> None:
        written = [path for path, _ in (*self.assignments, *self.additions)] + list(self.removals)
        for number, path in enumerate(written):
            if any(path.overlaps(other, scope) for other in written[:number]):
                raise UnknownExpressionError(f"Two document paths overlap with each other: {path.name(scope)}")


def _members_of(item: Item, name: str) -> list[AttributeValue]:
    members = item.get(name, {}).get("L")
    if members is None:
        raise Refusal(INVALID, "The document path provided in the update expression is invalid for update")
    return list(members)


def _put(item: dict[str, AttributeValue], path: Path, value: AttributeValue, scope: Scope) -> None:
    name = path.name(scope)
    if path.index is None:
        item[name] = value
        return
    # An index beyond the end appends.
    members = _members_of(item, name)
    members[path.index : path.index + 1] = [value]
    item[name] = {"L": members}


def _remove(item: dict[str, AttributeValue], path: Path, scope: Scope) -> None:
    name = path.name(scope)
    if path.index is None:
        item.pop(name, None)
        return
    members = _members_of(item, name)
    del members[path.index : path.index + 1]
    item[name] = {"L": members}


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
class Deletion:
    """A PartiQL DELETE of one item by its key."""

    table_name: str
    key: tuple[Name, Operand]
    condition: Condition | None
    parameters: int
    returning: bool = False

    def key_in(self, values: Mapping[str, AttributeValue]) -> AttributeValue:
        """Return the key of the item that it deletes."""
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


AnyStatement = Statement | Insert | Deletion


@lru_cache(maxsize=512)
def parse_statement(text: str) -> AnyStatement:
    """Parse an UPDATE, an INSERT or a DELETE of one item.

    `UPDATE "table" SET ... REMOVE ... WHERE key = ? AND (...) RETURNING ALL NEW *`
    `INSERT INTO "table" VALUE {'name': ?, ...}`
    `DELETE FROM "table" WHERE key = ? AND (...)`
    """
    parser = Parser(text, Dialect.PARTIQL)
    kind = parser.expect("UPDATE", "INSERT", "DELETE")
    if kind == "INSERT":
        return _insert(parser)
    if kind == "DELETE":
        parser.expect("FROM")
    table_name = parser.name()(Scope({}, {}, {}))
    update = _clauses(parser, "SET", "REMOVE") if kind == "UPDATE" else None
    parser.expect("WHERE")
    name = parser.name()
    parser.expect("=")
    key = (name, parser.operand())
    condition = parser.condition() if parser.accept("AND") else None
    returning = update is not None and parser.accept("RETURNING") is not None
    if returning:
        for word in ("ALL", "NEW", "*"):
            parser.expect(word)
    parser.end()
    parameters = len(parser.used.values)
    if update is None:
        return Deletion(table_name, key, condition, parameters)
    return Statement(table_name, update, key, condition, returning, parameters)


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
    assignments: list[tuple[Path, Operand]] = []
    additions: list[tuple[Path, Operand]] = []
    removals: list[Path] = []
    while clause := parser.accept(*clauses):
        while True:
            path = parser.path()
            if clause == "SET":
                parser.expect("=")
                assignments.append((path, parser.sum()))
            elif clause == "ADD":
                additions.append((path, parser.operand()))
            else:
                removals.append(path)
            if separator is None or not parser.accept(separator):
                break
    if not assignments and not additions and not removals:
        raise parser.unknown(f"expected {', '.join(clauses)}")
    return Update(tuple(assignments), tuple(additions), tuple(removals), parser.used)
