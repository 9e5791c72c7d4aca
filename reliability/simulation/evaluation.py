"""The closures that the parser builds from expressions, and their evaluation on an item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from reliability.simulation.responses import INVALID, Refusal
from reliability.simulation.values import AttributeValue, Item, add_numbers, are_equal, compare, contains, size_of


class UnknownExpressionError(Exception):
    """An expression that DynamoDB refuses, or that this parser does not support."""


class Scope(NamedTuple):
    """The item and the values that an expression is evaluated on."""

    item: Item
    names: Mapping[str, str]
    values: Mapping[str, AttributeValue]


Name = Callable[[Scope], str]
Operand = Callable[[Scope], AttributeValue | None]
Condition = Callable[[Scope], bool]


@dataclass(frozen=True, slots=True)
class Path:
    """An attribute, or a member of a list."""

    name: Name
    index: int | None = None

    def value(self, scope: Scope) -> AttributeValue | None:
        """Read what is there; None if nothing is."""
        attribute = scope.item.get(self.name(scope))
        if self.index is None or attribute is None:
            return attribute
        members = attribute.get("L", ())
        return members[self.index] if self.index < len(members) else None

    def overlaps(self, other: Path, scope: Scope) -> bool:
        """Tell whether two paths of an update mean the same, or one of them a part of the other."""
        return self.name(scope) == other.name(scope) and (
            None in (self.index, other.index) or self.index == other.index
        )


COMPARISONS: Final[Mapping[str, Callable[[AttributeValue, AttributeValue], bool]]] = {
    "=": are_equal,
    "<>": lambda left, right: not are_equal(left, right),
    "<": lambda left, right: (order := compare(left, right)) is not None and order < 0,
    "<=": lambda left, right: (order := compare(left, right)) is not None and order <= 0,
    ">": lambda left, right: (order := compare(left, right)) is not None and order > 0,
    ">=": lambda left, right: (order := compare(left, right)) is not None and order >= 0,
}


def name_of(placeholder: str, scope: Scope) -> str:
    """Look up the name that a placeholder stands for."""
    if placeholder not in scope.names:
        raise UnknownExpressionError(f"the name {placeholder} is not given")
    return scope.names[placeholder]


def value_of(placeholder: str, scope: Scope) -> AttributeValue:
    """Look up the value that a placeholder stands for."""
    if placeholder not in scope.values:
        raise UnknownExpressionError(f"the value {placeholder} is not given")
    return scope.values[placeholder]


def either(left: Condition, right: Condition) -> Condition:
    """Join two conditions with OR."""
    return lambda scope: left(scope) or right(scope)


def both(left: Condition, right: Condition) -> Condition:
    """Join two conditions with AND."""
    return lambda scope: left(scope) and right(scope)


def has_member(path: Path, member: Operand) -> Condition:
    """Make the condition `contains`."""

    def condition(scope: Scope) -> bool:
        container, wanted = path.value(scope), member(scope)
        return container is not None and wanted is not None and contains(container, wanted)

    return condition


def total_of(left: Operand, right: Operand) -> Operand:
    """Make the sum of two operands."""

    def total(scope: Scope) -> AttributeValue:
        a, b = left(scope), right(scope)
        if a is None or b is None or "N" not in a or "N" not in b:
            raise UnknownExpressionError("an operand of + is not a number, or is missing")
        return add_numbers(a, b)

    return total


def if_not_exists(path: Path, default: Operand) -> Operand:
    """Make the operand `if_not_exists`."""

    def chosen(scope: Scope) -> AttributeValue | None:
        attribute = path.value(scope)
        return default(scope) if attribute is None else attribute

    return chosen


def list_append(left: Operand, right: Operand) -> Operand:
    """Make the operand `list_append`."""

    def joined(scope: Scope) -> AttributeValue:
        a, b = left(scope), right(scope)
        if a is None or b is None:
            raise Refusal(INVALID, "The provided expression refers to an attribute that does not exist in the item")
        if "L" not in a or "L" not in b:
            raise Refusal(INVALID, "An operand in the update expression has an incorrect data type")
        return {"L": [*a["L"], *b["L"]]}

    return joined


def length_of(path: Path) -> Operand:
    """Make the operand `size`."""

    def length(scope: Scope) -> AttributeValue | None:
        attribute = path.value(scope)
        size = None if attribute is None else size_of(attribute)
        return None if size is None else {"N": str(size)}

    return length


def set_add(path: Path, members: Operand) -> Operand:
    """Make the operand `set_add`."""

    def united(scope: Scope) -> AttributeValue:
        added = members(scope)
        if added is None:
            raise UnknownExpressionError("the members to add are missing")
        return unite(path.value(scope), added)

    return united


def unite(members: AttributeValue | None, added: AttributeValue) -> AttributeValue:
    """Add members to a set of texts, or a number to a number, as ADD does."""
    if "SS" in added and (members is None or "SS" in members):
        return {"SS": sorted({*(members or added)["SS"], *added["SS"]})}
    if "N" in added and (members is None or "N" in members):
        return added if members is None else add_numbers(members, added)
    raise UnknownExpressionError(f"cannot add {added} to {members}")
