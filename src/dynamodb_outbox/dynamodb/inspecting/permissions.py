"""Tries IAM actions without changing anything: by conditions that cannot hold, and for items that do not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import uuid4

from dynamodb_outbox.dynamodb.delivering.index import Partition
from dynamodb_outbox.dynamodb.inspecting.facts import Permission
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import NOT_ALLOWED
from dynamodb_outbox.errors import CredentialsError, StorageError

TRY_SECONDS: Final = 5.0
EXISTS: Final = "attribute_exists(id)"
"""A condition that no write of a new id can meet."""


class DryRun:
    """Tries actions on the table. `existing_id` is an id that is stored: an INSERT of it is refused as a duplicate."""

    def __init__(self, caller: Caller, partition: Partition, *, existing_id: str | None) -> None:
        self._caller = caller
        self._partition = partition
        self._existing_id = existing_id
        self._key = {"id": {"S": f"dynamodb-outbox-doctor-{uuid4()}"}}
        self._attempts: Mapping[str, Callable[[], Awaitable[Any]]] = {
            "dynamodb:PutItem": self._put,
            "dynamodb:UpdateItem": self._update,
            "dynamodb:DeleteItem": self._delete,
            "dynamodb:BatchWriteItem": self._batch_write,
            "dynamodb:PartiQLUpdate": self._partiql_update,
            "dynamodb:PartiQLInsert": self._partiql_insert,
            "dynamodb:PartiQLDelete": self._partiql_delete,
            "dynamodb:ConditionCheckItem": self._condition_check,
            "dynamodb:Query": self._query,
            "dynamodb:BatchGetItem": self._batch_get,
            "dynamodb:DescribeTable": self._describe_table,
            "dynamodb:DescribeTimeToLive": self._describe_time_to_live,
        }

    async def attempt(self, action: str) -> Permission:
        """Try one action."""
        attempt = self._attempts.get(action)
        if attempt is None:
            return Permission(action=action, is_allowed=None, reason="there is no way to try it without a change")
        if action == "dynamodb:PartiQLInsert" and self._existing_id is None:
            return Permission(action=action, is_allowed=None, reason="it can be tried only once the table has an item")
        try:
            await attempt()
        except (ConditionRefused, TransactionRefused):
            return Permission(action=action, is_allowed=True)
        except CredentialsError as error:
            is_denied = error.reason.startswith(NOT_ALLOWED)
            return Permission(action=action, is_allowed=False if is_denied else None, reason=error.reason)
        except StorageError as error:
            return Permission(action=action, is_allowed=None, reason=str(error))
        return Permission(action=action, is_allowed=True)

    async def _call(self, operation: str, **params: Any) -> Any:
        return await self._caller.call(operation, within=TRY_SECONDS, once=True, **params)

    async def _put(self) -> None:
        await self._call("put_item", TableName=self._caller.table_name, Item=self._key, ConditionExpression=EXISTS)

    async def _update(self) -> None:
        await self._call(
            "update_item",
            TableName=self._caller.table_name,
            Key=self._key,
            UpdateExpression="SET retryCount = :zero",
            ExpressionAttributeValues={":zero": {"N": "0"}},
            ConditionExpression=EXISTS,
        )

    async def _delete(self) -> None:
        await self._call("delete_item", TableName=self._caller.table_name, Key=self._key, ConditionExpression=EXISTS)

    async def _condition_check(self) -> None:
        check = {"TableName": self._caller.table_name, "Key": self._key, "ConditionExpression": EXISTS}
        await self._call("transact_write_items", TransactItems=[{"ConditionCheck": check}])

    async def _batch_write(self) -> None:
        # BatchWriteItem has no conditions. To delete an item that does not exist changes nothing.
        requests = [{"DeleteRequest": {"Key": self._key}}]
        await self._call("batch_write_item", RequestItems={self._caller.table_name: requests})

    async def _partiql_update(self) -> None:
        update = f'UPDATE "{self._caller.table_name}" SET retryCount = ? WHERE id = ?'  # noqa: S608 - a checked name
        await self._statement(update, [{"N": "0"}, self._key["id"]])

    async def _partiql_insert(self) -> None:
        # The id exists, so the INSERT is refused as a duplicate.
        insert = f"INSERT INTO \"{self._caller.table_name}\" VALUE {{'id': ?}}"
        await self._statement(insert, [{"S": self._existing_id or ""}])

    async def _partiql_delete(self) -> None:
        # DynamoDB documents that a DELETE of an item that does not exist succeeds.
        delete = f'DELETE FROM "{self._caller.table_name}" WHERE id = ?'  # noqa: S608 - a checked name
        await self._statement(delete, [self._key["id"]])

    async def _statement(self, text: str, parameters: list[dict[str, str]]) -> None:
        response = await self._call(
            "batch_execute_statement", Statements=[{"Statement": text, "Parameters": parameters}]
        )
        error = response["Responses"][0].get("Error", {})
        if str(error.get("Code", "")).startswith(NOT_ALLOWED):
            reason = f"{error['Code']}: {error.get('Message', '')}"
            raise CredentialsError(operation="batch_execute_statement", reason=reason)

    async def _query(self) -> None:
        await self._call(
            "query",
            TableName=self._caller.table_name,
            IndexName=self._partition.index_name,
            KeyConditionExpression="#key = :value",
            ExpressionAttributeNames={"#key": self._partition.attribute},
            ExpressionAttributeValues={":value": {"S": self._partition.value}},
            ProjectionExpression="id",
            Limit=1,
        )

    async def _batch_get(self) -> None:
        await self._call("batch_get_item", RequestItems={self._caller.table_name: {"Keys": [self._key]}})

    async def _describe_table(self) -> None:
        await self._call("describe_table", TableName=self._caller.table_name)

    async def _describe_time_to_live(self) -> None:
        await self._call("describe_time_to_live", TableName=self._caller.table_name)
