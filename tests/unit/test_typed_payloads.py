"""Instances of all kinds of classes, through the codec and back; and payloads that are not valid."""

from __future__ import annotations

import dataclasses
import enum
import gc
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox import ConfigurationError, Event, EventType, InvalidPayloadError, UnstorableValueError
from dynamodb_outbox.dynamodb.items.values import decode, encode
from dynamodb_outbox.emit_options import event_of
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.typed.stored_form import from_stored


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


Sku = NewType("Sku", str)


@dataclass
class Line:
    sku: Sku
    price: Decimal


@dataclass(frozen=True, slots=True)
class OfDataclass:
    order: UUID
    at: datetime
    day: date
    total: Decimal
    weight: float
    count: int
    colour: Colour
    size: Size
    blob: bytes
    lines: list[Line]
    tags: set[str]
    numbers: tuple[int, ...]
    pair: tuple[str, int]
    by_name: dict[str, Line]
    note: str | None = None
    kind: Literal["a", "b"] = "a"
    later: Annotated[Optional[datetime], "unused"] = None  # noqa: UP045 - both forms are read


class OfPydantic(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    order: UUID
    at: datetime
    day: date
    total: Decimal
    weight: float
    count: int
    colour: Colour
    size: Size
    blob: bytes
    lines: list[Line]
    tags: set[str]
    numbers: tuple[int, ...]
    pair: tuple[str, int]
    by_name: dict[str, Line]
    note: str | None = None
    kind: Literal["a", "b"] = "a"
    later: datetime | None = None


class OfStruct(msgspec.Struct):
    order: UUID
    at: datetime
    day: date
    total: Decimal
    weight: float
    count: int
    colour: Colour
    size: Size
    blob: bytes
    lines: list[Line]
    tags: set[str]
    numbers: tuple[int, ...]
    pair: tuple[str, int]
    by_name: dict[str, Line]
    note: str | None = None
    kind: Literal["a", "b"] = "a"
    later: datetime | None = None


@attrs.define
class OfAttrs:
    order: UUID
    at: datetime
    day: date
    total: Decimal
    weight: float
    count: int
    colour: Colour
    size: Size
    blob: bytes
    lines: list[Line]
    tags: set[str]
    numbers: tuple[int, ...]
    pair: tuple[str, int]
    by_name: dict[str, Line]
    note: str | None = None
    kind: Literal["a", "b"] = "a"
    later: datetime | None = None


class OfTypedDict(TypedDict, total=False):
    order: UUID
    at: datetime
    day: date
    total: Decimal
    weight: float
    count: int
    colour: Colour
    size: Size
    blob: bytes
    lines: list[Line]
    tags: set[str]
    numbers: tuple[int, ...]
    pair: tuple[str, int]
    by_name: dict[str, Line]
    note: str | None
    kind: Literal["a", "b"]
    later: datetime | None


KINDS: list[Any] = [OfDataclass, OfPydantic, OfStruct, OfAttrs, OfTypedDict, pydantic.dataclasses.dataclass(Line)]
ALL = KINDS[:5]
money = st.decimals(-1_000_000, 1_000_000, places=2)
lines = st.builds(Line, st.text(max_size=5), money)
instants = st.datetimes(timezones=st.just(UTC))
fields_of_all: dict[str, st.SearchStrategy[Any]] = {
    "order": st.uuids(),
    "at": instants,
    "day": st.dates(),
    "total": money,
    "weight": st.floats(-1e30, 1e30).filter(lambda number: number == 0 or abs(number) > 1e-100),
    "count": st.integers(-(10**30), 10**30),
    "colour": st.sampled_from(Colour),
    "size": st.sampled_from(Size),
    "blob": st.binary(max_size=5),
    "lines": st.lists(lines, max_size=2),
    "tags": st.sets(st.text(max_size=3), max_size=3),
    "numbers": st.lists(st.integers(0, 9), max_size=3).map(tuple),
    "pair": st.tuples(st.text(max_size=3), st.integers(0, 9)),
    "by_name": st.dictionaries(st.text("abc", min_size=1, max_size=2), lines, max_size=2),
    "note": st.none() | st.text(max_size=3),
    "kind": st.sampled_from(["a", "b"]),
    "later": st.none() | instants,
}


def through_the_codec(payload: Any, numbers: Numbers) -> Any:
    return decode(encode(payload, numbers=numbers)[0], numbers=numbers)


def there_and_back(kind: Any, instance: Any, numbers: Numbers = "native") -> Any:
    registered = EventType("test.there-and-back", kind)
    event = event_of(registered, instance)
    stored = Event(event.type, through_the_codec(event.payload, numbers))
    return from_stored(stored, registered)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("numbers", ["native", "decimal"])
@given(values=st.fixed_dictionaries(fields_of_all))
def test_every_type_comes_back_as_it_was(kind: Any, numbers: Numbers, values: dict[str, Any]) -> None:
    if kind is OfStruct:
        values = {**values, "count": values["count"] % 2**60}  # msgspec reads 64 bits
    instance = kind(**values)
    received = there_and_back(kind, instance, numbers)
    assert received == instance
    assert type(received) is type(instance)
    for name in values:
        mine, theirs = (each[name] if kind is OfTypedDict else getattr(each, name) for each in (received, instance))
        assert type(mine) is type(theirs), name


@pytest.mark.parametrize("kind", ALL)
@given(values=st.fixed_dictionaries(fields_of_all))
def test_an_instance_is_read_from_what_was_not_stored_yet(kind: Any, values: dict[str, Any]) -> None:
    # An event that is claimed on emit may have values that have not passed the codec.
    if kind is OfStruct:
        values = {**values, "count": values["count"] % 2**60}
    registered = EventType("test.unstored", kind)
    assert from_stored(event_of(registered, kind(**values)), registered) == kind(**values)


@pytest.mark.parametrize("kind", ALL)
def test_wrong_values_have_a_path_and_are_not_in_the_message(kind: Any) -> None:
    good = {
        "order": "12345678-1234-1234-1234-123456789abc", "at": "2026-11-30T12:00:00+00:00", "day": "2026-11-30",
        "total": 19.9, "weight": 1, "count": 2, "colour": "red", "size": 1, "blob": b"x",
        "lines": [{"sku": "a", "price": 1}, {"sku": "b", "price": 2}], "tags": ["a"], "numbers": [1],
        "pair": ["a", 1], "by_name": {"a": {"sku": "a", "price": 1}},
    }  # fmt: skip
    registered = EventType("test.wrong", kind)
    secret = "confidential"
    bad: list[tuple[str, Any, str]] = [
        ("order", secret, "payload.order"),
        ("at", secret, "payload.at"),
        ("count", secret, "payload.count"),
        ("weight", secret, "payload.weight"),
        ("total", [secret], "payload.total"),
        ("tags", secret, "payload.tags"),
        ("lines", [{"sku": "a", "price": 1}, {"sku": "b", "price": [secret]}], "payload.lines[1].price"),
        ("lines", [{"sku": "a"}], "payload.lines[0]"),
    ]
    assert from_stored(Event("t", {**good, "unknown": 1}), registered)
    for name, value, path in bad:
        with pytest.raises(InvalidPayloadError) as caught:
            from_stored(Event("t", {**good, name: value}), registered)
        assert caught.value.path.startswith(path)
        assert secret not in str(caught.value)
    if kind is not OfTypedDict:
        with pytest.raises(InvalidPayloadError):
            from_stored(Event("t", {}), registered)
    for payload in (None, 5, "text", [1]):
        with pytest.raises(InvalidPayloadError):
            from_stored(Event("t", payload), registered)


def test_pydantic_reads_aliases_urls_and_leaves_out_computed_fields() -> None:
    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        order_id: str = pydantic.Field(alias="orderId")
        link: pydantic.HttpUrl

        @pydantic.computed_field
        def shout(self) -> str:
            return self.order_id.upper()

    instance = Model(orderId="a", link="https://example.org/")  # type: ignore[arg-type]
    stored = event_of(EventType("t", Model), instance).payload
    assert stored == {"order_id": "a", "link": "https://example.org/"}
    assert there_and_back(Model, instance) == instance
    read = from_stored(Event("t", {"orderId": "a", "link": "https://example.org/"}), EventType("t", Model))
    assert read == instance


def test_an_invalid_instance_and_a_secret_are_refused_without_their_values() -> None:
    class Model(pydantic.BaseModel):
        number: int
        secret: pydantic.SecretStr = pydantic.SecretStr("")

    with pytest.raises(UnstorableValueError, match="cannot serialize") as caught:
        event_of(EventType("t", Model), Model.model_construct(number="confidential", secret=pydantic.SecretStr("")))
    assert "confidential" not in str(caught.value)
    payload = event_of(EventType("t", Model), Model(number=1, secret=pydantic.SecretStr("confidential"))).payload
    with pytest.raises(Exception, match="SecretStr"):
        encode(payload, numbers="native")


def test_defaults_private_fields_and_classes_within_themselves() -> None:
    @attrs.define
    class Private:
        _number: int
        other: list[int] = attrs.field(factory=list)

    assert there_and_back(Private, Private(5)) == Private(5)
    assert from_stored(Event("t", {"_number": 5}), EventType("t", Private)) == Private(5)
    assert there_and_back(Tree, Tree("a", [Tree("b")])) == Tree("a", [Tree("b")])


@dataclass
class Tree:
    name: str
    below: list[Tree] = field(default_factory=list["Tree"])
    size: int = field(init=False, default=1)


def test_validation_of_the_class_itself_is_part_of_it() -> None:
    @dataclass
    class Positive:
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("it must not be negative")

    with pytest.raises(InvalidPayloadError, match="ValueError: it must not be negative"):
        from_stored(Event("t", {"number": -1}), EventType("t", Positive))


@dataclass
class Card:
    number: str

    def __post_init__(self) -> None:
        if not self.number.isdigit():
            raise ValueError("digits only")


@dataclass
class Iban:
    number: str


@dataclass
class Paid:
    by: Card | Iban
    again: Card | None = None


def test_union_goes_on_after_a_type_whose_own_validation_fails() -> None:
    assert there_and_back(Paid, Paid(Iban("DE12"))) == Paid(Iban("DE12"))
    assert there_and_back(Paid, Paid(Card("12"))) == Paid(Card("12"))
    with pytest.raises(InvalidPayloadError, match="ValueError: digits only") as caught:
        from_stored(Event("t", {"by": {"number": "1"}, "again": {"number": "x"}}), EventType("t", Paid))
    assert caught.value.path == "payload.again"
    assert isinstance(caught.value.__cause__, Exception)


class Rate(enum.Enum):
    FULL = Decimal("19.99")
    NONE = Decimal(0)


class Place(enum.Enum):
    HERE = (1, "a")
    THERE = UUID(int=1)
    THEN = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("member", [*Rate, *Place])
@pytest.mark.parametrize("numbers", ["native", "decimal"])
def test_enum_of_values_that_have_another_stored_form_comes_back(member: Any, numbers: Numbers) -> None:
    kind = dataclasses.make_dataclass("Made", [("value", type(member))])
    registered = EventType("t", kind)
    assert there_and_back(kind, kind(member), numbers).value is member
    with pytest.raises(InvalidPayloadError, match="it must be a value of"):
        from_stored(Event("t", {"value": "other"}), registered)


class StructA(msgspec.Struct):
    value: int


class StructB(msgspec.Struct):
    value: str


class Ambiguous(msgspec.Struct):
    at: datetime | str


class Untagged(msgspec.Struct):
    value: StructA | StructB


@pytest.mark.parametrize("kind", [Ambiguous, Untagged, dataclasses.make_dataclass("Outer", [("inner", Ambiguous)])])
def test_struct_that_msgspec_cannot_read_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read by msgspec"):
        EventType("t", kind).check_readable()


class Inner(pydantic.BaseModel):
    at: date


class Around(msgspec.Struct):
    inner: Inner


def test_pydantic_model_in_a_struct_comes_back() -> None:
    around = Around(Inner(at=date(2026, 11, 30)))
    assert there_and_back(Around, around) == around
    with pytest.raises(InvalidPayloadError, match="at: Input should be a valid date") as caught:
        from_stored(Event("t", {"inner": {"at": "never"}}), EventType("t", Around))
    assert caught.value.path == "payload.inner"


class Made(msgspec.Struct):
    """Its instances cannot be made without a handler."""

    at: str = msgspec.field(default_factory=lambda: {}["request"])

    def __post_init__(self) -> None:
        if self.at == "Invalid card value 17":
            raise ValueError(self.at)


def test_struct_is_checked_without_an_instance_of_it() -> None:
    EventType("t", Made).check_readable()
    with pytest.raises(InvalidPayloadError, match="Invalid card value 17"):
        from_stored(Event("t", {"at": "Invalid card value 17"}), EventType("t", Made))


def test_mismatch_leaves_nothing_for_the_garbage_collector() -> None:
    registered = EventType("t", Paid)
    event = Event("t", {"by": {"number": "1"}, "again": {"number": "x"}})
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            with suppress(InvalidPayloadError):
                from_stored(event, registered)
        assert gc.collect() < 100
    finally:
        gc.enable()


class TaggedA(pydantic.BaseModel):
    kind: Literal["a"] = "a"


class TaggedB(pydantic.BaseModel):
    kind: Literal["b"] = "b"


class Tagged(pydantic.BaseModel):
    one: TaggedA | TaggedB = pydantic.Field(discriminator="kind")


class StructTagged(msgspec.Struct):
    one: Annotated[StructOne | StructTwo, "either"]


class StructOne(msgspec.Struct, tag=True):
    value: int


class StructTwo(msgspec.Struct, tag=True):
    value: int


class StructOfEnum(msgspec.Struct):
    one: Colour


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Tagged, {"kind": "confidential"}),
        (StructTagged, {"type": "confidential", "value": 1}),
        (StructTagged, {"type": "x - at `$confidential`", "value": 1}),
        (StructOfEnum, "confidential"),
    ],
)
def test_value_that_names_no_choice_is_not_in_the_message(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        from_stored(Event("t", {"one": value}), EventType("t", kind))
    assert "confidential" not in str(caught.value)
    assert caught.value.path.startswith("payload.one")


@pytest.mark.parametrize("kind", [complex, type, list[complex], "Unknown", Tree | complex])
def test_fields_that_cannot_be_read_are_refused(kind: Any) -> None:
    made = dataclasses.make_dataclass("Made", [("value", kind)])
    with pytest.raises(ConfigurationError):
        EventType("t", made).check_readable()


@dataclass
class OfCents:
    total: Decimal

    def __init__(self, cents: int) -> None:
        self.total = Decimal(cents) / 100


@dataclass
class WithSecret:
    total: Decimal
    key: dataclasses.InitVar[str]


@attrs.define(init=False)
class OfNothing:
    total: Decimal


@dataclass
class OfAnything:
    total: Decimal

    def __init__(self, **fields: Any) -> None:
        self.total = fields["total"]


@pytest.mark.cases(4)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (OfCents, r"OfCents\(\.\.\.\) must take the fields of the class by name.*'cents'"),
        (WithSecret, "missing a required argument: 'key'"),
        (OfNothing, "unexpected keyword argument 'total'"),
        (dataclasses.make_dataclass("Outer", [("inner", OfCents)]), "OfCents"),
    ],
)
def test_class_whose_constructor_does_not_take_its_fields_is_refused(kind: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        EventType("t", kind).check_readable()


def test_class_whose_constructor_takes_anything_is_read() -> None:
    assert there_and_back(OfAnything, OfAnything(total=Decimal(1))) == OfAnything(total=Decimal(1))


def test_events_of_a_class_are_pickled() -> None:
    event = Event[Line]("order.placed", Line(Sku("a"), Decimal(1)), ordering_key="k")
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - made here
    assert Event[Line] == Event[Line]
    assert not hasattr(event, "__dict__")
