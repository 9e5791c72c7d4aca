"""What `connect` makes of its options: a profile, and the fast JSON where it fits the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.hooks import AioHierarchicalEmitter

from dynamodb_outbox import ConfigurationError, DynamoDBOutbox, Event, OutboxEventBus
from reliability.proxy import Proxy

PAYLOAD: Mapping[str, Any] = {"total": 12.5, "picture": b"\x00\xff", "tags": {"new", "gift"}}


class Bodies(list[bytes]):
    """The requests of an operation as they are sent."""

    @property
    def is_of_the_sdk(self) -> bool:
        """Whether the SDK wrote them: it has a space after a colon, and the fast JSON has none."""
        return b'": ' in b"".join(self)


async def deliver(endpoint: str, table_name: str, **options: Any) -> tuple[list[Any], Bodies]:
    """Connect, and deliver three events: one alone, and two in a batch."""
    delivered: list[Any] = []
    batches = Bodies()
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=endpoint, poll_interval=0.05, **options
    ) as outbox:
        client: Any = outbox._client
        client.meta.events.register(
            "before-send.dynamodb.BatchWriteItem", lambda request, **_: batches.append(request.body)
        )
        await outbox.create_table()
        bus = OutboxEventBus(outbox)
        await bus.emit("order.placed", PAYLOAD)
        await bus.emit_many([Event("order.placed", PAYLOAD), Event("order.placed", PAYLOAD)])

        @bus.on("order.placed")
        async def ship(event: Event) -> None:
            delivered.append(event.payload)

        async with bus:
            await bus.drain(timeout=30)
    assert len(batches) == 1
    return delivered, batches


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "fast JSON" in record.getMessage()]


async def test_fast_json_fits_the_installed_sdk(
    local_endpoint: str, table_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    delivered, batches = await deliver(local_endpoint, table_name)
    assert delivered == [PAYLOAD] * 3
    assert not batches.is_of_the_sdk
    assert warnings_in(caplog) == []


async def test_connect_sends_nothing_by_itself(proxy: Proxy) -> None:
    async with DynamoDBOutbox.connect(table_name="events", region_name="us-east-1", endpoint_url=proxy.endpoint):
        pass
    assert not proxy.requests  # the dry run of the fast JSON included


async def test_fast_json_fits_where_endpoints_need_an_account(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required")
    async with DynamoDBOutbox.connect(table_name="events", region_name="us-east-1"):
        pass
    assert warnings_in(caplog) == []


async def test_fast_json_can_be_switched_off(
    local_endpoint: str, table_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    delivered, batches = await deliver(local_endpoint, table_name, fast_json=False)
    assert delivered == [PAYLOAD] * 3
    assert batches.is_of_the_sdk
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    ("hook", "change"),
    [
        ("provide-client-params", "is gone"),
        ("before-call", "is gone"),
        ("before-parse", "is gone"),
        ("provide-client-params", "has other arguments"),
        ("before-parse", "has other arguments"),
    ],
)
async def test_connect_works_with_an_sdk_that_has_other_hooks(  # noqa: PLR0917 - by name
    hook: str,
    change: str,
    local_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    emit = AioHierarchicalEmitter._emit

    async def emit_otherwise(
        self: Any, event_name: str, kwargs: dict[str, Any], stop_on_response: bool = False
    ) -> list[Any]:
        if event_name.startswith(hook):
            if change == "is gone":
                return []
            kwargs = {f"new_{name}": value for name, value in kwargs.items()}
        answers: list[Any] = await emit(self, event_name, kwargs, stop_on_response)
        return answers

    monkeypatch.setattr(AioHierarchicalEmitter, "_emit", emit_otherwise)
    delivered, batches = await deliver(local_endpoint, table_name)
    assert delivered == [PAYLOAD] * 3
    assert batches.is_of_the_sdk
    (warning,) = warnings_in(caplog)
    assert "does not fit the installed aiobotocore" in warning
    assert "fast_json=False" in warning


async def test_changed_response_is_refused_also_where_the_sdk_reads_it(local_endpoint: str, table_name: str) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name,
        region_name="us-east-1",
        endpoint_url=local_endpoint,
        fast_json=False,
        conditional_writes="batch",
    ) as outbox:
        await outbox.create_table()
        await outbox.publish([Event("order.placed", {"total": 1000})])
        changed: list[bytes] = []

        def change(response_dict: dict[str, Any], **_: Any) -> None:
            if not changed:
                changed.append(response_dict["body"])
                response_dict["body"] = response_dict["body"].replace(b"1000", b"9000")

        client: Any = outbox._client
        client.meta.events.register_first("before-parse.dynamodb.BatchExecuteStatement", change)
        (claim,) = await outbox.claim(1)
    assert b"1000" in changed[0]
    assert claim.event.payload == {"total": 1000}


async def test_profile_gives_region_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile shop]\nregion = eu-central-1\naws_access_key_id = KEYOFSHOP\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with DynamoDBOutbox.connect(table_name="events", profile_name="shop") as outbox:
        client: Any = outbox._client
        assert client.meta.region_name == "eu-central-1"
        assert client._request_signer._credentials.access_key == "KEYOFSHOP"


async def test_unknown_profile_is_named() -> None:
    with pytest.raises(ConfigurationError, match="profile_name='nobody'"):
        async with DynamoDBOutbox.connect(table_name="events", region_name="us-east-1", profile_name="nobody"):
            pass


async def test_fast_json_is_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match="fast_json='no': it must be True or False"):
        async with DynamoDBOutbox.connect(table_name="events", fast_json="no"):  # type: ignore[arg-type]  # refused
            pass
