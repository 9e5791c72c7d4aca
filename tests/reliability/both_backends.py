"""What the tests of the simulated backend need: one table for it and DynamoDB Local, and their replies in one form."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

TABLE = "contract"
Request = tuple[str, dict[str, Any]]


def definition(key_name: str, projection: str) -> dict[str, Any]:
    keys = {"id": "S", key_name: "S", "gsiSortKey": "N"}
    return {
        "TableName": TABLE,
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in keys.items()],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "index",
                "KeySchema": [
                    {"AttributeName": key_name, "KeyType": "HASH"},
                    {"AttributeName": "gsiSortKey", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": projection},
            }
        ],
        "BillingMode": "PAY_PER_REQUEST",
    }


def in_order(value: Any) -> Any:
    """The same value with its sets sorted: DynamoDB promises no order of them."""
    if isinstance(value, dict):
        return {name: sorted(member) if name == "SS" else in_order(member) for name, member in value.items()}
    return [in_order(member) for member in value] if isinstance(value, list) else value


async def reply_of(client: Any, request: Request) -> Any:
    """What a request is answered with, without what nobody looks at: sentences, and the order of rows alike."""
    operation, parameters = request
    try:
        reply = await getattr(client, operation)(**parameters)
    except ClientError as error:
        reasons = [
            {name: reason.get(name) for name in ("Code", "Item")}
            for reason in error.response.get("CancellationReasons", [])
        ]
        return error.response["Error"]["Code"], in_order(error.response.get("Item")), in_order(reasons)
    reply.pop("ResponseMetadata", None)
    capacity = reply.pop("ConsumedCapacity", None)
    if operation == "query" and capacity is not None and reply["Count"]:
        # DynamoDB bills half a unit for no rows. DynamoDB Local reports none.
        reply["units"] = capacity["CapacityUnits"]
    for response in reply.get("Responses", []) if isinstance(reply.get("Responses"), list) else []:
        if "Error" in response:
            response["Error"] = response["Error"]["Code"]
    if operation == "batch_get_item":
        reply["Responses"][TABLE].sort(key=lambda each: each["id"]["S"])
    return in_order(reply)
