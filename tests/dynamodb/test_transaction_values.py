"""Values of transactions: plain ones and those of the low-level API, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, UnstorableValueError
from dynamodb_outbox.dynamodb.emitting.transact_items import transact_item_of
from dynamodb_outbox.transaction import TransactionWrite
from tests.dynamodb.bank import Bank


async def test_plain_and_low_level_values_are_not_mixed(bank: Bank) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with bank.bus.transaction() as tx:
            tx.put(TableName=bank.table, Item={"id": "bob", "balance": {"N": "4"}})
    assert str(caught.value).startswith(
        "Put Item: 'balance' is a low-level value and 'id' a plain one; write all of them plain, such as 'text' or 5, "
        "or all of them low-level, such as {'S': 'text'} or {'N': '5'}"
    )
    assert str(caught.value).endswith("(a map that only looks like one: {'M': {'S': {'S': 'text'}}})")


async def test_mapping_that_is_used_again_keeps_the_values_it_had(bank: Bank) -> None:
    item: dict[str, Any] = {}
    async with bank.bus.transaction() as tx:
        for name, balance in (("bob", 1), ("eve", 2)):
            item.update(id=name, balance=balance)
            tx.put(TableName=bank.table, Item=item)
    assert [await bank.balance(name) for name in ("bob", "eve")] == [1, 2]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"id": {"S": "\ud800"}}, "Put Item cannot be stored: it is not valid Unicode text"),
        ({"id": {"M": {"\ud800": {"S": "a"}}}}, "Put Item cannot be stored: it is not valid Unicode text"),
        ({1: {"S": "ada"}}, r"Put Item\[1\] cannot be stored: a key must be a string, not int"),
    ],
)
async def test_low_level_text_and_names_that_cannot_be_stored_are_refused(item: Any, message: str) -> None:
    with pytest.raises(UnstorableValueError, match=message):
        transact_item_of(TransactionWrite(operation="Put", arguments={"TableName": "accounts", "Item": item}))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"NS": [1, 2]}, {"M": {"NS": {"L": [{"N": "1"}, {"N": "2"}]}}}),
        ({"L": [1]}, {"M": {"L": {"L": [{"N": "1"}]}}}),
        ({"M": {"a": 1}}, {"M": {"M": {"M": {"a": {"N": "1"}}}}}),
        ({"N": 5}, {"M": {"N": {"N": "5"}}}),
        ({"M": {"S": {"S": "text"}}}, {"M": {"S": {"S": "text"}}}),
        ({"NS": ["1"]}, {"NS": ["1"]}),
    ],
)
async def test_what_only_looks_like_a_low_level_value_is_a_plain_map(value: Any, stored: dict[str, Any]) -> None:
    def put(**item: Any) -> dict[str, Any]:
        write = TransactionWrite(operation="Put", arguments={"TableName": "accounts", "Item": item})
        fields: dict[str, Any] = transact_item_of(write)[0]["Put"]["Item"]
        return fields

    assert put(value=value) == {"value": stored}
    other: Any = {"S": "ada"} if value == stored else "ada"
    assert put(id=other, value=value) == {"id": {"S": "ada"}, "value": stored}
    with pytest.raises(ConfigurationError, match=r"is a low-level value and '\w+' a plain one"):
        put(id="ada" if value == stored else {"S": "ada"}, value=value)


async def test_value_that_cannot_be_stored_is_named_with_its_path(bank: Bank) -> None:
    with pytest.raises(
        UnstorableValueError, match=r"Put Item\.lines\[1\] cannot be stored: DynamoDB cannot store nan as a number"
    ):
        async with bank.bus.transaction() as tx:
            tx.put(TableName=bank.table, Item={"id": "bob", "lines": [1, float("nan")]})
    assert bank.proxy.count("TransactWriteItems") == 0
