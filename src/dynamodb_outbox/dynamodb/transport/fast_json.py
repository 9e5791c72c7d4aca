"""The JSON of requests and replies, written and read in one go.

The SDK walks through every attribute value of a request and of a reply, along the shapes of its service model: in
Python, and half of the CPU of a batch. What the codec makes is the wire's own form but for binary values, and so is
what it reads. So the client of `connect` leaves the walk out for the operations that carry events. It is done by
the SDK's own events, and for one client only; errors are left to the SDK.

DynamoDB sends a checksum with each reply. The SDK looks at it only to repeat a request by itself, which it must not do
here; so this client looks.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from dynamodb_outbox.dynamodb.transport.responses import UnreadableResponseError

Params = Mapping[str, Any]

_BODY: Final = "dynamodb-outbox-body"


class CorruptResponseError(Exception):
    """The bytes of a reply were changed on their way: the request may have been applied."""


def install_fast_json(client: Any) -> None:
    """Let a client write and read the JSON of the outbox's operations by itself.

    It is for clients that nobody else uses: a binary value must be bytes, where the SDK would take a text as well.
    """
    install_checksums(client)
    for event, handler in _handlers():
        client.meta.events.register(event, handler)


def remove_fast_json(client: Any) -> None:
    """Leave the JSON to the SDK again. Checksums are still compared."""
    for event, handler in _handlers():
        client.meta.events.unregister(event, handler)


def install_checksums(client: Any) -> None:
    """Let a client compare the checksum of each response, whoever reads its JSON."""
    client.meta.events.register("before-parse.dynamodb", _compare_checksum)


def _handlers() -> Iterator[tuple[str, Callable[..., Any]]]:
    for operation in _ENDPOINT_PARAMS:
        yield f"provide-client-params.dynamodb.{operation}", _write
        yield f"before-call.dynamodb.{operation}", _send_written
    yield "before-parse.dynamodb", _read


_ENDPOINT_PARAMS: Final[Mapping[str, Callable[[Params], Params]]] = {
    "PutItem": lambda params: {"TableName": params["TableName"]},
    "BatchWriteItem": lambda params: {"RequestItems": dict.fromkeys(params["RequestItems"], ())},
    "BatchExecuteStatement": lambda _: {"Statements": ()},
}
"""What the SDK still has to see: the tables, which may be named by ARN, and then decide on the endpoint."""

_READ: Final = frozenset({"Query", "BatchExecuteStatement", "UpdateItem", "BatchGetItem", "BatchWriteItem"})


def _write(params: Params, model: Any, context: dict[str, Any], **_: Any) -> Params:
    context[_BODY] = _ENCODER.encode(params).encode()
    return _ENDPOINT_PARAMS[model.name](params)


def _send_written(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = context.pop(_BODY)


def _compare_checksum(response_dict: dict[str, Any] | None = None, **_: Any) -> None:
    if response_dict is None:
        return  # another release of the SDK names its arguments otherwise
    body, checksum = response_dict["body"], response_dict["headers"].get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(body)):
        raise CorruptResponseError(f"its bytes have the checksum {zlib.crc32(body)}, and were sent with {checksum}")


def _read(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    body = response_dict["body"]
    if operation_model.name in _READ and response_dict["status_code"] == HTTPStatus.OK:
        customized_response_dict.update(_parsed(body))
        # The SDK parses what is left: nothing.
        response_dict["body"] = b"{}"


def _parsed(body: bytes) -> dict[str, Any]:
    # A hook costs every mapping of the reply a call; few replies have binary values.
    hook = _with_bytes if b'"B"' in body or b'"BS"' in body else None
    try:
        members = json.loads(body.decode(), object_hook=hook).items()
    except (ValueError, AttributeError) as error:
        raise UnreadableResponseError(error) from error
    return {name: value for name, value in members if value is not None}


def _with_bytes(members: dict[str, Any]) -> dict[str, Any]:
    # Only an attribute value has a text or a list of texts in it: an attribute named B holds a mapping.
    if len(members) == 1:
        if isinstance(text := members.get("B"), str):
            return {"B": base64.b64decode(text)}
        if isinstance(texts := members.get("BS"), list):
            return {"BS": [base64.b64decode(each) for each in texts]}
    return members


def _text_of_bytes(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no part of an attribute value")


_ENCODER: Final = json.JSONEncoder(default=_text_of_bytes, separators=(",", ":"), check_circular=False)
