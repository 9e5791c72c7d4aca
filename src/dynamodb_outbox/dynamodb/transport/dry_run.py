"""A dry run of the fast JSON: requests pass through the whole SDK, but a hook answers them before they are sent.

The fast JSON depends on the SDK's event hooks and their arguments. If another release of the SDK changes them, the SDK
can send empty requests. The dry run detects this before the first real request.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from botocore import UNSIGNED

from dynamodb_outbox.dynamodb.transport.fast_json import CorruptResponseError

_ITEM: Final = {"id": {"B": b"\x00"}}
_REQUESTS: Final[tuple[tuple[str, dict[str, Any], bytes], ...]] = (
    ("put_item", {"TableName": "table", "Item": _ITEM}, b'{"TableName":"table","Item":{"id":{"B":"AA=="}}}'),
    (
        "batch_write_item",
        {"RequestItems": {"table": [{"PutRequest": {"Item": _ITEM}}]}},
        b'{"RequestItems":{"table":[{"PutRequest":{"Item":{"id":{"B":"AA=="}}}}]}}',
    ),
    (
        "batch_execute_statement",
        {"Statements": [{"Statement": "statement", "Parameters": [{"B": b"\x00"}]}]},
        b'{"Statements":[{"Statement":"statement","Parameters":[{"B":"AA=="}]}]}',
    ),
)
"""Requests, and the bytes that the fast JSON sends for each. The SDK writes a space after each colon."""
_RESPONSE: Final = b'{"Unknown":{"B":"AA=="}}'
"""The SDK leaves out a member that it does not know; the fast JSON keeps it."""


class _Response:
    """A response of DynamoDB, as the SDK gets it from the network."""

    status_code = 200
    raw = None

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers

    @property
    def content(self) -> Awaitable[bytes]:
        """The bytes of the response."""
        return _ready(_RESPONSE)


async def _ready(body: bytes) -> bytes:
    return body


async def find_misfit(client: Any) -> str | None:
    """Return why the fast JSON does not fit the SDK, or None if it fits. Sends nothing."""
    bodies: list[bytes] = []

    def answer(request: Any, **_: Any) -> _Response:
        bodies.append(bytes(request.body))
        return _Response({"x-amz-crc32": "0"} if len(bodies) > len(_REQUESTS) + 1 else {})

    handlers = {
        "before-endpoint-resolution.dynamodb": _with_any_account,
        "choose-signer.dynamodb": _unsigned,
        "before-send.dynamodb": answer,
    }
    try:
        for event, handler in handlers.items():
            client.meta.events.register(event, handler)
        return await _compare(client, bodies)
    except Exception as error:  # a changed SDK may raise any exception
        return f"{type(error).__name__}: {error}"
    finally:
        for event, handler in handlers.items():
            client.meta.events.unregister(event, handler)


async def _compare(client: Any, bodies: list[bytes]) -> str | None:
    for operation, arguments, expected in _REQUESTS:
        await getattr(client, operation)(**arguments)
        if bodies[-1] != expected:
            return f"the SDK writes the request of {operation} itself"
    response = await client.query(TableName="table")
    if response.get("Unknown") != {"B": b"\x00"}:
        return "the SDK reads responses itself"
    try:
        await client.query(TableName="table")
    except CorruptResponseError:
        return None
    return "the checksum of a response is not compared"


def _with_any_account(builtins: dict[str, Any], **_: Any) -> None:
    # To find the account, the SDK would resolve the credentials, perhaps over the network. Some settings require one.
    builtins["AWS::Auth::AccountId"] = "000000000000"


def _unsigned(**_: Any) -> Any:
    return UNSIGNED
