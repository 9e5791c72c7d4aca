"""The codec of values: what comes back equal, what comes back in its JSON form, what is refused and where."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime
from decimal import Context, Decimal, FloatOperation, Inexact, Rounded, Subnormal, localcontext
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from dynamodb_outbox import Event, EventTooLargeError, UnstorableValueError
from dynamodb_outbox.dynamodb.items.codec import MAX_ITEM_BYTES, decode_event, encode_event
from dynamodb_outbox.dynamodb.items.sizes import size_of
from dynamodb_outbox.dynamodb.items.values import decode, encode
from tests.values import anything, payloads, payloads_with_decimals, payloads_with_money, same


def round_trip(value: Any, numbers: Any = "native") -> Any:
    return decode_event(
        encode_event(Event("order.placed", value), due_at=0, numbers=numbers)[0], numbers=numbers
    ).payload


modes = pytest.mark.parametrize("numbers", ["native", "decimal"])


@modes
@given(payload=payloads_with_money)
def test_what_goes_in_comes_out_equal(payload: Any, numbers: str) -> None:
    assert same(payload, round_trip(payload, numbers), numbers)


@given(payload=payloads_with_decimals)
def test_every_decimal_comes_back_as_it_was_in_decimal_mode(payload: Any) -> None:
    assert same(payload, round_trip(payload, "decimal"), "decimal")


@modes
@given(payload=anything)
def test_anything_is_stored_equal_or_refused_with_its_path(payload: Any, numbers: str) -> None:
    try:
        received = round_trip(payload, numbers)
    except UnstorableValueError as error:
        assert error.path.startswith("payload")
    else:
        assert same(payload, received, numbers)


@modes
@given(payload=anything)
def test_what_was_received_can_be_emitted_again(payload: Any, numbers: str) -> None:
    try:
        received = round_trip(payload, numbers)
    except UnstorableValueError:
        return
    again = round_trip(received, numbers)
    assert same(received, again, numbers)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    USER = "user"


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    kind: Kind


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, "a"), [1, "a"]),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Kind.USER, "user"),
        ({Kind.USER: 1}, {"user": 1}),
        (Line("a", Decimal("9.99"), Kind.USER), {"sku": "a", "price": 9.99, "kind": "user"}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (frozenset({"a"}), {"a"}),
        (Decimal("1.50"), 1.5),
        (Decimal(7), 7),
        (Decimal("1.1"), 1.1),
        (Decimal(10**37 + 1), 10**37 + 1),
        (Decimal("1E60"), 1e60),
        (Decimal("1E125"), 1e125),
        (1.2345e60, 1.2345e60),
        (4.753008766976501e16, 47530087669765008),
        (-0.0, 0),
    ],
)
def test_other_values_come_back_in_their_json_form(value: Any, expected: Any) -> None:
    received = round_trip(value)
    assert received == expected
    assert type(received) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"),
        (Decimal(7), "7"),
        (7.0, "7"),
        (10**38 - 1, "9" * 38),
        (Decimal("1.50"), "Decimal('1.5')"),
        (0.1, "Decimal('0.1')"),
        (-2.5e-7, "Decimal('-2.5E-7')"),
        (1e60, "Decimal('1E+60')"),
        (Decimal("0.1234567890123456789"), "Decimal('0.1234567890123456789')"),
        ({Decimal("0.1234567890123456789")}, "{Decimal('0.1234567890123456789')}"),
        (Line("a", Decimal("9.99"), Kind.USER), "{'sku': 'a', 'price': Decimal('9.99'), 'kind': 'user'}"),
    ],
)
def test_numbers_that_are_not_whole_come_back_as_decimals_in_decimal_mode(value: Any, expected: str) -> None:
    assert repr(round_trip(value, "decimal")) == expected


@pytest.mark.parametrize(
    ("stored", "native", "exact"),
    [
        ("1.0", "1", "1"),
        ("-0", "0", "0"),
        ("97.5", "97.5", "Decimal('97.5')"),
        ("-0.5", "-0.5", "Decimal('-0.5')"),
        ("1.50", "1.5", "Decimal('1.5')"),
        ("9" * 38, "9" * 38, "9" * 38),
        ("1" + "0" * 60, "1e+60", "Decimal('1E+60')"),
        ("1E125", "1e+125", "Decimal('1E+125')"),
        # What others stored beyond a float's precision is delivered all the same: as the nearest float.
        ("0.1234567890123456789", "0.12345678901234568", "Decimal('0.1234567890123456789')"),
        ("1.00000000000000000001", "1.0", "Decimal('1.00000000000000000001')"),
        ("12345678901234567890123456789E20", "1.2345678901234568e+48", "Decimal('1.2345678901234567890123456789E+48')"),
    ],
)
def test_number_is_read_however_it_is_written(stored: str, native: str, exact: str) -> None:
    assert repr(decode({"N": stored}, numbers="native")) == native
    assert repr(decode({"N": stored}, numbers="decimal")) == exact
    assert repr(decode({"NS": [stored]}, numbers="native")) == f"{{{native}}}"


@modes
def test_numbers_do_not_depend_on_the_decimal_context_of_the_application(numbers: Any) -> None:
    with localcontext(Context(prec=3, traps=[Inexact, Rounded, FloatOperation, Subnormal])):
        for stored in ("9" * 38, "1.2345678901234567", "1E125", "123456789012345678901E30"):
            decode({"N": stored}, numbers=numbers)
        assert round_trip(Decimal("12345.678"), numbers) in (12345.678, Decimal("12345.678"))
        assert round_trip(Decimal("9" * 38), numbers) == 10**38 - 1


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"lines": [{"price": Decimal("0.1234567890123456789")}]}, "payload.lines[0].price"),
        ({"of set": {1, Decimal("1.00000000000000000001")}}, "payload['of set']"),
        (Decimal("1E100") + Decimal("1E80"), "payload"),
        (Decimal("1.0000000000000000000000001"), "payload"),
    ],
)
def test_decimal_that_no_float_equals_is_refused_in_native_mode(payload: Any, path: str) -> None:
    with pytest.raises(UnstorableValueError) as caught:
        round_trip(payload)
    assert caught.value.path == path
    assert 'numbers="decimal"' in caught.value.reason
    assert "string" in caught.value.reason
    assert same(payload, round_trip(payload, "decimal"), "decimal")


@pytest.mark.parametrize(
    ("payload", "path", "reason"),
    [
        ({"a": [1, {"b": float("nan")}]}, "payload.a[1].b", "cannot store nan as a number; store None or a string"),
        ({"a": float("-inf")}, "payload.a", "cannot store -inf as a number"),
        (float("inf"), "payload", "cannot store inf as a number"),
        ({"n": 1e126}, "payload.n", "magnitude"),
        ({"n": 1e-131}, "payload.n", "magnitude"),
        ({"n": 10**38}, "payload.n", "38 digits at most; store it as a string"),
        ({"n": Decimal("1." + "1" * 38)}, "payload.n", "this one has 39; round it first, or use Decimal(str(x))"),
        ({"n": Decimal("NaN")}, "payload.n", "cannot store NaN as a number"),
        ({"a": {"": 1}}, "payload.a['']", "must not be empty"),
        ({"a": {5: 1}}, "payload.a[5]", "must be a string"),
        ({"a b": {"c": object()}}, "payload['a b'].c", "type object"),
        ({"s": set()}, "payload.s", "cannot store an empty set"),
        ({"s": {1, "a"}}, "payload.s", "all strings, all numbers or all bytes"),
        ({"s": {True, 2}}, "payload.s", "all strings, all numbers or all bytes"),
        ({"s": {0.1, Decimal("0.1")}}, "payload.s", "same number"),
        ({"t": "\ud800"}, "payload.t", "Unicode"),
        ({"\udfff": 1}, "payload['\\udfff']", "Unicode"),
    ],
)
def test_refused_value_is_named_by_its_path(payload: Any, path: str, reason: str) -> None:
    with pytest.raises(UnstorableValueError) as caught:
        round_trip(payload)
    assert (caught.value.path, reason in caught.value.reason) == (path, True), str(caught.value)


def test_metadata_is_refused_under_its_name() -> None:
    with pytest.raises(UnstorableValueError) as caught:
        encode_event(Event("order.placed", metadata={"x": object()}), due_at=0, numbers="native")
    assert caught.value.path == "metadata.x"


def nested(levels: int) -> Any:
    value: Any = {"end": 1}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_nesting_ends_where_dynamodb_ends() -> None:
    assert round_trip(nested(31)) == nested(31)
    with pytest.raises(UnstorableValueError, match="nested deeper than DynamoDB's 32 levels"):
        round_trip(nested(32))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnstorableValueError, match="nested deeper"):
        round_trip(loop)


def test_event_over_the_item_limit_is_refused_with_its_size() -> None:
    with pytest.raises(EventTooLargeError) as caught:
        round_trip({"text": "ä" * 205_000})
    assert caught.value.size > caught.value.limit
    assert 400_000 < caught.value.limit < MAX_ITEM_BYTES
    assert "S3" in str(caught.value)


@pytest.mark.parametrize("stored", [{"X": 1}, {"N": "abc"}, {"N": "NaN"}, {"S": 5}, {"B": "text"}, {}])
@modes
def test_attribute_that_is_not_a_value_is_not_decoded(stored: Any, numbers: Any) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        decode(stored, numbers=numbers)


def test_size_counts_names_and_values() -> None:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    assert encode({"ab": "xyz"}, numbers="native")[1] == 3 + 1 + 2 + 3
    assert encode(["ä"], numbers="native")[1] == 3 + 1 + 2
    assert encode({"ä", "b"}, numbers="native")[1] == 2 + 1


@given(payloads)
def test_size_of_what_is_encoded_is_counted_while_encoding(payload: Any) -> None:
    encoded, size = encode(payload, numbers="native")
    assert size_of(encoded) == size


@pytest.mark.parametrize(
    ("number", "engine"),
    [
        (0, 1), (1, 2), (-1, 3), (12, 2), (-12, 3), (123, 3), (120, 3), (-120, 4), (1000, 2), (10100, 3), (0.5, 2),
        (1.2, 3), (-1.2, 4), (12.5, 3), (123.4, 4), (0.012, 3), (0.00012, 3), (97.5, 3), (5e-130, 2),
        (1_790_000_000_123, 8), (10**38 - 1, 20), (1 - 10**38, 21), (Decimal("12E48"), 2), (Decimal("12E49"), 3),
    ],
)  # fmt: skip
def test_number_is_counted_as_dynamodb_local_counts_it_or_a_little_more(number: Any, engine: int) -> None:
    # As measured on DynamoDB Local: the longest text that an item takes beside the number.
    assert engine <= encode(number, numbers="decimal")[1] <= engine + 3
