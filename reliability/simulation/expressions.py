"""Parses the parts of DynamoDB's expression language and of its PartiQL that the library uses.

A recursive descent parser turns each text into closures, once. It refuses unknown syntax, so that it never evaluates an
expression wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

from reliability.simulation.evaluation import (
    COMPARISONS,
    Condition,
    Name,
    Operand,
    Path,
    Scope,
    UnknownExpressionError,
    both,
    either,
    has_member,
    if_not_exists,
    length_of,
    list_append,
    name_of,
    set_add,
    total_of,
    value_of,
)


class Dialect(Enum):
    """The syntax of names and values."""

    EXPRESSION = "#name and :value"
    PARTIQL = '"name" and ?'


_OPERANDS: Final = {Dialect.EXPRESSION: ("IF_NOT_EXISTS", "LIST_APPEND"), Dialect.PARTIQL: ("SET_ADD",)}
"""The functions that an attribute can be set to."""
_CONDITIONS: Final = {
    Dialect.EXPRESSION: ("ATTRIBUTE_EXISTS", "ATTRIBUTE_NOT_EXISTS", "CONTAINS"),
    # DynamoDB Local also accepts ATTRIBUTE_NOT_EXISTS in a statement, but AWS documents only IS MISSING.
    Dialect.PARTIQL: ("CONTAINS",),
}
"""The functions that a condition can call."""


_TOKEN: Final = re.compile(
    r"\s*(?:(?P<value>:\w+)|(?P<name>\#\w+)|(?P<parameter>\?)|\"(?P<quoted>[^\"]+)\"|'(?P<text>[^']+)'"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<index>\d+)|(?P<sign><>|<=|>=|[=<>+(),*{}:\[\]]))"
)
# A few of the 573 reserved words, likely to be used in expressions:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
_RESERVED: Final = frozenset(
    {"STATUS", "NAME", "VALUE", "TIMESTAMP", "DATE", "TTL", "TOKEN", "STATE", "COUNTER", "TYPE"}
)
_KEYWORDS: Final = frozenset(
    {"AND", "OR", "NOT", "SET", "REMOVE", "ADD", "DELETE", "WHERE", "RETURNING", "UPDATE", "BETWEEN", "IN", "IS"}
)


@dataclass(slots=True)
class Used:
    """The placeholders that an expression uses; DynamoDB refuses unused placeholders."""

    names: set[str] = field(default_factory=set[str])
    values: set[str] = field(default_factory=set[str])


class Parser:
    """Reads one text."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.used = Used()
        self._dialect = dialect
        self._tokens = _tokens_of(text)
        self._position = 0
        self._parameters = 0

    # Tokens

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of these words or signs."""
        kind, token = self._tokens[self._position]
        if kind in ("word", "sign") and token.upper() in texts:
            self._position += 1
            return token.upper()
        return None

    def expect(self, *texts: str) -> str:
        """Take the next token, which must have one of the given kinds."""
        token = self.accept(*texts)
        if token is None:
            raise self.unknown(f"expected {' or '.join(texts)}")
        return token

    def end(self) -> None:
        """Check that nothing is left."""
        if self._position < len(self._tokens) - 1:
            raise self.unknown("expected the end")

    def unknown(self, reason: str) -> UnknownExpressionError:
        """Make the error for unknown syntax, with its position."""
        return UnknownExpressionError(f"{reason} before {self._tokens[self._position][1]!r} in {self.text!r}")

    def _take(self, *kinds: str) -> str | None:
        kind, token = self._tokens[self._position]
        if kind not in kinds:
            return None
        self._position += 1
        return token

    # Names and values

    def name(self) -> Name:
        """Read the name of an attribute."""
        if self._dialect is Dialect.EXPRESSION:
            placeholder = self._take("name")
            if placeholder is not None:
                self.used.names.add(placeholder)
                return lambda scope: name_of(placeholder, scope)
        elif (quoted := self._take("quoted")) is not None:
            return lambda _: quoted
        word = self._take("word")
        if word is None or word.upper() in _KEYWORDS or word.upper() in _RESERVED:
            raise self.unknown(f"expected the name of an attribute, got {word!r},")
        return lambda _: word

    def quoted(self) -> str:
        """Read a text in single quotes."""
        text = self._take("text")
        if text is None:
            raise self.unknown("expected a text in single quotes")
        return text

    def value(self) -> Operand | None:
        """Read the placeholder of a value, if one follows."""
        if self._dialect is Dialect.EXPRESSION:
            placeholder = self._take("value")
        elif self._take("parameter") is not None:
            placeholder = f":{self._parameters}"
            self._parameters += 1
        else:
            placeholder = None
        if placeholder is None:
            return None
        self.used.values.add(placeholder)
        return lambda scope: value_of(placeholder, scope)

    def path(self) -> Path:
        """Read the name of an attribute, or a member of a list: `name[0]`."""
        name = self.name()
        if not self.accept("["):
            return Path(name)
        index = self._take("index")
        if index is None:
            raise self.unknown("expected the index of a member")
        self.expect("]")
        return Path(name, int(index))

    def operand(self) -> Operand:
        """Read a value, or what a path stands for."""
        value = self.value()
        return self.path().value if value is None else value

    def sum(self) -> Operand:
        """Read the operand that an attribute is set to."""
        term = self._term()
        while self.accept("+"):
            term = total_of(term, self._term())
        return term

    def _term(self) -> Operand:
        function = self.accept(*_OPERANDS[self._dialect])
        if function is None:
            return self.operand()
        self.expect("(")
        first = self._term() if function == "LIST_APPEND" else self.path()
        self.expect(",")
        second = self._term()
        self.expect(")")
        if not isinstance(first, Path):
            return list_append(first, second)
        return if_not_exists(first, second) if function == "IF_NOT_EXISTS" else set_add(first, second)

    # Conditions

    def condition(self) -> Condition:
        """Read a condition."""
        condition = self._conjunction()
        while self.accept("OR"):
            condition = either(condition, self._conjunction())
        return condition

    def _conjunction(self) -> Condition:
        condition = self._negation()
        while self.accept("AND"):
            condition = both(condition, self._negation())
        return condition

    def _negation(self) -> Condition:
        if self.accept("NOT"):
            negated = self._negation()
            return lambda scope: not negated(scope)
        if self.accept("("):
            condition = self.condition()
            self.expect(")")
            return condition
        return self._function() or self._comparison()

    def _function(self) -> Condition | None:
        function = self.accept(*_CONDITIONS[self._dialect])
        if function is None:
            return None
        self.expect("(")
        path = self.path()
        member = None
        if function == "CONTAINS":
            self.expect(",")
            member = self.operand()
        self.expect(")")
        if member is not None:
            return has_member(path, member)
        wanted = function == "ATTRIBUTE_EXISTS"
        return lambda scope: (path.value(scope) is not None) is wanted

    def _size(self) -> Operand | None:
        if not self.accept("SIZE"):
            return None
        self.expect("(")
        path = self.path()
        self.expect(")")
        return length_of(path)

    def _comparison(self) -> Condition:
        left = self._size() or self.operand()
        if self._dialect is Dialect.PARTIQL and self.accept("IS"):
            wanted = self.accept("NOT") is None
            self.expect("MISSING")
            return lambda scope: (left(scope) is None) is wanted
        holds = COMPARISONS[self.expect(*COMPARISONS)]
        right = self.operand()

        def comparison(scope: Scope) -> bool:
            a, b = left(scope), right(scope)
            return a is not None and b is not None and holds(a, b)

        return comparison


@dataclass(frozen=True, slots=True)
class ParsedCondition:
    """A condition, and the placeholders that it uses."""

    holds: Condition
    used: Used


@lru_cache(maxsize=512)
def parse_condition(text: str) -> ParsedCondition:
    """Parse a ConditionExpression."""
    parser = Parser(text, Dialect.EXPRESSION)
    condition = parser.condition()
    parser.end()
    return ParsedCondition(condition, parser.used)


def _tokens_of(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise UnknownExpressionError(f"no token at {position} in {text!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return [*tokens, ("end", "the end")]
