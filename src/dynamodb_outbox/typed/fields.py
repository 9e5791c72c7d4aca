"""Reads stored values as the types of dataclasses, attrs classes, TypedDicts and their fields."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.typed.kinds import class_name, is_attrs, is_typed_dict
from dynamodb_outbox.typed.mismatch import Mismatch, mismatch_of
from dynamodb_outbox.typed.plain import to_plain
from dynamodb_outbox.typed.scalars import SCALARS
from dynamodb_outbox.wording import shape, shown

Reader = Callable[[Any], Any]
_LISTS: Final = frozenset({list, Sequence, Iterable, Collection})
_UNIONS: Final = (Union, types.UnionType)


def reader_of(kind: Any, *, nested: Callable[[Any], Reader | None]) -> Reader:
    """Make the function that reads a stored value as a type; it raises `Mismatch`.

    `nested` makes the readers of classes that a library reads. Raises `ConfigurationError` for a type that cannot be
    read.
    """
    return _Readers(nested).of(kind)


class _Readers:
    """The readers of a class and of the types of its fields. A class may contain itself."""

    def __init__(self, nested: Callable[[Any], Reader | None]) -> None:
        self._nested = nested
        self._by_class: dict[type, Reader] = {}

    def of(self, kind: Any) -> Reader:  # noqa: PLR0911 - one for each form of a type
        while hasattr(kind, "__supertype__") or hasattr(kind, "__value__"):
            kind = kind.__supertype__ if hasattr(kind, "__supertype__") else kind.__value__
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is None:
            return self._of_class(kind)
        if hasattr(kind, "__metadata__") or origin in {Required, NotRequired}:
            return self.of(arguments[0])
        if origin is Literal:
            return _one_of(arguments)
        if origin in _UNIONS:
            return _union(kind, [self.of(each) for each in arguments])
        if origin in {dict, Mapping}:
            return _mapping(self.of(arguments[0]), self.of(arguments[1]))
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):  # noqa: PLR2004 - tuple[X, ...]
            return _fixed_tuple([self.of(each) for each in arguments])
        if origin in _LISTS or origin in {tuple, set, frozenset}:
            return _many(list if origin in _LISTS else origin, self.of(arguments[0]))
        raise _unreadable(kind)

    def _of_class(self, kind: Any) -> Reader:
        if kind in SCALARS:
            return SCALARS[kind]
        if kind in _LISTS or kind in {tuple, set, frozenset}:
            return _many(list if kind in _LISTS else kind, SCALARS[Any])
        if kind in {dict, Mapping}:
            return _mapping(SCALARS[Any], SCALARS[Any])
        if not isinstance(kind, type):
            raise _unreadable(kind)
        if kind not in self._by_class:
            # A field may have this class, too: until its reader is made, fields find it by its class.
            self._by_class[kind] = lambda value: self._by_class[kind](value)  # noqa: PLW0108 - the value changes
            self._by_class[kind] = self._make(kind)
        return self._by_class[kind]

    def _make(self, kind: type) -> Reader:
        if (reader := self._nested(kind)) is not None:
            return reader
        if issubclass(kind, Enum):
            return _enum(kind)
        if is_typed_dict(kind):
            required: Collection[str] = kind.__required_keys__  # type: ignore[attr-defined]  # of a TypedDict
            fields = [_Field(name, name, name in required) for name in _hints(kind)]
            return self._object(kind, fields, make=dict, extra=True)
        if is_attrs(kind):
            return self._object(kind, _attrs_fields(kind))
        if dataclasses.is_dataclass(kind):
            nothing = dataclasses.MISSING
            return self._object(
                kind,
                [
                    _Field(each.name, each.name, each.default is nothing and each.default_factory is nothing)
                    for each in dataclasses.fields(kind)
                    if each.init
                ],
            )
        raise _unreadable(kind)

    def _object(
        self, kind: type, fields: Sequence[_Field], *, make: Callable[..., Any] | None = None, extra: bool = False
    ) -> Reader:
        hints = _hints(kind)
        if make is None:
            _check_constructor(kind, fields)
        readers = [(field, self.of(hints.get(field.name, Any))) for field in fields]
        build: Callable[..., Any] = make or kind

        def read(value: Any) -> Any:
            if make is None and type(value) is kind:
                return value
            if not isinstance(value, Mapping):
                raise Mismatch(f"it must be an object of {kind.__qualname__}, not {shape(value)}")
            given = {key: member for key, member in value.items() if key not in hints} if extra else {}
            for field, reader in readers:
                if field.name in value:
                    given[field.argument] = _at(f".{field.name}", reader, value[field.name])
                elif field.is_required:
                    raise Mismatch("it is missing", steps=[f".{field.name}"])
            return build(**given) if make is None else given

        return read


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A field as it is stored, and as the constructor takes it."""

    name: str
    argument: str
    is_required: bool


def _attrs_fields(kind: Any) -> list[_Field]:
    from attr import NOTHING  # noqa: PLC0415 - optional

    return [_Field(each.name, each.alias, each.default is NOTHING) for each in kind.__attrs_attrs__ if each.init]


def _check_constructor(kind: type, fields: Sequence[_Field]) -> None:
    """Raise `ConfigurationError` if a class cannot be made of its fields alone."""
    try:
        inspect.signature(kind).bind(**{field.argument: None for field in fields})
    except TypeError as error:
        raise ConfigurationError(
            f"{class_name(kind)}(...) must take the fields of the class by name, because it makes instances of stored "
            f"payloads: {error}; let its constructor take each field, and give all other arguments a default"
        ) from error
    except ValueError:
        return  # a constructor in C does not tell its arguments


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigurationError(
            f"the annotations of {kind.__qualname__} cannot be read: {error}; define the types of its fields in the "
            "same module, before the handler is registered"
        ) from error


def _at(step: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except Mismatch as error:
        error.steps.append(step)
        raise
    except Exception as error:
        raise mismatch_of(error, step) from error


def _unreadable(kind: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{shown(kind)} cannot be the type of a field: use str, int, float, bool, None, bytes, Decimal, datetime, "
        "date, UUID, Enum, Literal, list, tuple, set, dict, unions and dataclasses; a pydantic model reads more types"
    )


def _one_of(accepted: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        for each in accepted:
            stored = each.value if isinstance(each, Enum) else each
            if value is each or (type(value) is type(stored) and value == stored):
                return each
        raise Mismatch(f"it must be one of {', '.join(map(repr, accepted))}")

    return read


def _enum(kind: type[Enum]) -> Reader:
    # A value such as a Decimal, a UUID or a tuple is stored in another form.
    by_form = [(to_plain(member), SCALARS.get(type(member.value)), member) for member in kind]

    def read(value: Any) -> Any:
        with suppress(ValueError):
            return kind(value)
        for form, scalar, member in by_form:
            with suppress(Mismatch):
                if value == form or (scalar is not None and scalar(value) == member.value):
                    return member
        raise Mismatch(f"it must be a value of {kind.__qualname__}")

    return read


def _union(kind: Any, readers: Sequence[Reader]) -> Reader:
    def read(value: Any) -> Any:
        found: list[Mismatch] = []
        try:
            for reader in readers:
                try:
                    return reader(value)
                except Exception as error:
                    found.append(mismatch_of(error))
            if any(max(_depth(each)) for each in found):
                raise max(found, key=_depth)
            raise Mismatch(f"it must be {kind}, not {shape(value)}")
        finally:
            found.clear()  # the traceback of an error has this frame, and would be a cycle for the garbage collector

    return read


def _depth(error: Mismatch) -> tuple[int, int]:
    """Rank a mismatch by how far its value has fitted: to a field within it, or to the validation of the class."""
    return len(error.steps), int(error.__cause__ is not None)


def _mapping(read_key: Reader, read_member: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Mismatch(f"it must be a mapping, not {shape(value)}")
        return {_at(f".{key}", read_key, key): _at(f".{key}", read_member, member) for key, member in value.items()}

    return read


def _members(value: Any) -> Iterable[Any]:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise Mismatch(f"it must be a list, not {shape(value)}")
    return value


def _many(make: Callable[[Iterable[Any]], Any], read_member: Reader) -> Reader:
    def read(value: Any) -> Any:
        return make([_at(f"[{index}]", read_member, member) for index, member in enumerate(_members(value))])

    return read


def _fixed_tuple(readers: Sequence[Reader]) -> Reader:
    def read(value: Any) -> Any:
        members = list(_members(value))
        if len(members) != len(readers):
            raise Mismatch(f"it must have {len(readers)} members, not {len(members)}")
        pairs = zip(readers, members, strict=True)
        return tuple([_at(f"[{index}]", reader, member) for index, (reader, member) in enumerate(pairs)])

    return read
