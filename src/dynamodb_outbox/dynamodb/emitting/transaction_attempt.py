"""One attempt of a transaction: its items in order, and what DynamoDB has refused of it.

First come the writes of the user, then the events, then the pages and queues of their ordering keys, and then the
record of a handler. A transaction may not name an item twice. So if an event has the key of the delivery that it is
emitted by, one `Update` appends the event and records the handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynamodb_outbox.dynamodb.emitting.forms import condition_of
from dynamodb_outbox.dynamodb.emitting.transaction_contents import Contents, LineWrite, TransactionPut
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION
from dynamodb_outbox.dynamodb.transport.classify import VERIFY, ErrorKind, kind_of_code
from dynamodb_outbox.errors import CancellationReason


class Attempt:
    """The items of one TransactWriteItems."""

    def __init__(self, contents: Contents, *, table_name: str) -> None:
        self.contents = contents
        self.items: list[dict[str, Any]] = list(contents.writes)
        self.puts: dict[int, TransactionPut] = {}
        self._lines: dict[int, LineWrite] = {}
        record = contents.record
        update = None if record is None else record.update
        joined: LineWrite | None = None
        for put in contents.puts:
            self.puts[len(self.items)] = put
            self.items.append({"Put": _put_arguments(put, table_name)})
        for line in contents.lines:
            for item in line.append.entries(table_name, line.seen):
                if update is not None and item.get("Update", {}).get("Key") == update["Key"]:
                    joined, update = line, _joined(item["Update"], update)
                    continue
                self._lines[len(self.items)] = line
                self.items.append(item)
        if record is not None and record.mark is not None:
            self.items.append({"Update": record.mark})
        if update is not None:
            if joined is not None:
                self._lines[len(self.items)] = joined
            self.items.append({"Update": update})

    def lines_to_plan(self, reasons: Sequence[Mapping[str, Any]]) -> dict[LineWrite, Mapping[str, Any] | None]:
        """Return the queues that refused the transaction, each as its refusal shows it, if nothing else refused it."""
        found: dict[LineWrite, Mapping[str, Any] | None] = {}
        for index, reason in enumerate(reasons):
            code = str(reason.get("Code", "None"))
            if code == "None" or kind_of_code(code) is ErrorKind.THROTTLED:
                continue
            line = self._lines.get(index)
            if line is None or code != FALSE_CONDITION or self._refuses_record(index, reason):
                return {}
            found[line] = reason.get("Item") or found.get(line)
        return found

    def refused_record(self, reasons: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the item that refused the record of the handler, or the mark of its event; None if neither did."""
        for index in range(len(reasons) - 1, -1, -1):
            reason = reasons[index]
            if reason.get("Code") == FALSE_CONDITION and self._refuses_record(index, reason):
                item: Mapping[str, Any] = reason.get("Item") or {}
                return item
        return None

    def _refuses_record(self, index: int, reason: Mapping[str, Any]) -> bool:
        record = self.contents.record
        if record is None or index < len(self.items) - record.count:
            return False
        is_joined = index in self._lines
        return not (is_joined and record.is_possible_in(reason.get("Item") or {}))

    def listed(self, reasons: Sequence[Mapping[str, Any]]) -> list[CancellationReason]:
        """List why the transaction was cancelled. A full queue is left out: its append is planned again."""
        event_ids = {index: put.event.id for index, put in self.puts.items()}
        return [
            reason
            for reason in reasons_of(reasons, self.items, event_ids)
            if reason.code != FALSE_CONDITION or reason.index not in self._lines
        ]


def reasons_of(
    reasons: Sequence[Mapping[str, Any]], transact_items: Sequence[dict[str, Any]], event_ids: Mapping[int, str]
) -> list[CancellationReason]:
    """List why a transaction was cancelled, without the items that were not a reason."""
    listed: list[CancellationReason] = []
    for index, (reason, transact_item) in enumerate(zip(reasons, transact_items, strict=False)):
        code = reason.get("Code", "None")
        if code == "None":
            continue
        ((operation, arguments),) = transact_item.items()
        listed.append(
            CancellationReason(
                index=index,
                operation=operation,
                table_name=arguments["TableName"],
                # Not the item of a Put: which of its attributes are the key is not known, and the others may be secret.
                key=arguments.get("Key", {}),
                event_id=event_ids.get(index),
                code=code,
                message=_message(reason, is_event=index in event_ids),
                item=reason.get("Item"),
            )
        )
    return listed


def put_item_of(put: TransactionPut, *, table_name: str) -> dict[str, Any]:
    """Return the transact item of an event."""
    return {"Put": _put_arguments(put, table_name)}


def _put_arguments(put: TransactionPut, table_name: str) -> dict[str, Any]:
    return {
        "TableName": table_name,
        "Item": put.item,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **condition_of(put.entry),
    }


def _joined(append: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Join the update that appends events and the record of a handler: `SET ...` and `ADD ...` of one item."""
    return {
        **append,
        "UpdateExpression": f"{append['UpdateExpression']} {record['UpdateExpression']}",
        "ConditionExpression": f"({append['ConditionExpression']}) AND ({record['ConditionExpression']})",
        "ExpressionAttributeNames": {
            **append.get("ExpressionAttributeNames", {}),
            **record.get("ExpressionAttributeNames", {}),
        },
        "ExpressionAttributeValues": {**append["ExpressionAttributeValues"], **record["ExpressionAttributeValues"]},
    }


def _message(reason: Mapping[str, Any], *, is_event: bool) -> str:
    message = str(reason.get("Message", ""))
    # The outbox has made the item as it should be, so the table is not.
    return f"{message}; {VERIFY}" if is_event and reason.get("Code") == "ValidationError" else message
