"""Fast JSON for requests and responses, in place of the SDK's serializer and parser.

The SDK visits each attribute value of a request and a response in Python, which takes half of the CPU of a batch. The
codec already produces and reads the JSON form of attribute values, except binary values. So the client of `connect`
skips the SDK's serializer and parser for the operations that carry events. It uses the SDK's event hooks, on this
client only; the SDK still handles errors.

DynamoDB sends a checksum with each response. The SDK checks it only as part of its own retries, which are switched off
here; so this module checks it.
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
    """The bytes of a response do not match its checksum. The request may have been applied."""


def install_fast_json(client: Any) -> None:
    """Replace the SDK's JSON for the outbox's operations on one client.

    Only for a client that nothing else uses: a binary value must be bytes, while the SDK also accepts a text.
    """
    install_checksums(client)
    for event, handler in _handlers():
        client.meta.events.register(event, handler)


def remove_fast_json(client: Any) -> None:
    """Undo `install_fast_json`, but keep the check of checksums."""
    for event, handler in _handlers():
        client.meta.events.unregister(event, handler)


def install_checksums(client: Any) -> None:
    """Let a client check the checksum of each response, with fast JSON or without."""
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
"""The parameters that the SDK still needs: a table named by its ARN decides the endpoint."""

_READ: Final = frozenset({"Query", "BatchExecuteStatement", "UpdateItem", "BatchGetItem", "BatchWriteItem"})


def _write(params: Params, model: Any, context: dict[str, Any], **_: Any) -> Params:
    context[_BODY] = _ENCODER.encode(params).encode()
    return _ENDPOINT_PARAMS[model.name](params)


def _send_written(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = context.pop(_BODY)


def _compare_checksum(response_dict: dict[str, Any] | None = None, **_: Any) -> None:
    if response_dict is None:
        return  # another SDK release may name its arguments differently
    body, checksum = response_dict["body"], response_dict["headers"].get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(body)):
        raise CorruptResponseError(f"the response has the checksum {zlib.crc32(body)}, but was sent with {checksum}")


def _read(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    body = response_dict["body"]
    if operation_model.name in _READ and response_dict["status_code"] == HTTPStatus.OK:
        customized_response_dict.update(_parsed(body))
        # Leave the SDK nothing to parse.
        response_dict["body"] = b"{}"


def _parsed(body: bytes) -> dict[str, Any]:
    # A hook is called for each mapping of a response, and few responses have binary values.
    hook = _with_bytes if b'"B"' in body or b'"BS"' in body else None
    try:
        members = json.loads(body.decode(), object_hook=hook).items()
    except (ValueError, AttributeError) as error:
        raise UnreadableResponseError(error) from error
    return {name: value for name, value in members if value is not None}


def _with_bytes(members: dict[str, Any]) -> dict[str, Any]:
    # An attribute that is named B holds a mapping; only a binary value holds a text or a list of texts.
    if len(members) == 1:
        if isinstance(text := members.get("B"), str):
            return {"B": base64.b64decode(text)}
        if isinstance(texts := members.get("BS"), list):
            return {"BS": [base64.b64decode(each) for each in texts]}
    return members


def _text_of_bytes(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be part of an attribute value")


_ENCODER: Final = json.JSONEncoder(default=_text_of_bytes, separators=(",", ":"), check_circular=False)
