"""Faults of the table: the doctor names each of them first, on DynamoDB Local and on moto."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.cli.doctor.finding import Mark
from dynamodb_outbox.dynamodb.inspecting.identity import caller_identity
from reliability.proxy import running_proxy
from tests.backends import open_client, until_indexes_are_made
from tests.cli.doctoring import Patient, PatientSettings
from tests.dynamodb.raw_tables import raw_table

INDEX = "status-gsiSortKey-index"


@pytest.fixture(params=["local", "moto"])
async def patient(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Patient]:
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    async with running_proxy(endpoint) as proxy, open_client(endpoint) as client:
        settings = PatientSettings(table=table_name, region="us-east-1", endpoint_url=proxy.endpoint)
        made = Patient(client, proxy, table_name, settings)
        yield made


async def protect(patient: Patient) -> None:
    """Turn on what moto describes, and DynamoDB Local does not have."""
    await patient.client.update_continuous_backups(
        TableName=patient.table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    await patient.client.update_table(TableName=patient.table, DeletionProtectionEnabled=True)


def described_with(**changes: Any) -> Any:
    """Let DescribeTable say something else of the table."""

    def change(response: Any) -> Any:
        response["Table"] |= changes
        return response

    return lambda request: change if request.operation == "DescribeTable" else None


async def run_update_table(patient: Patient, command: str) -> None:
    """Do what a command `aws dynamodb update-table` of the doctor does."""
    words = iter(shlex.split(command))
    assert [next(words) for _ in range(3)] == ["aws", "dynamodb", "update-table"]
    options: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            options[word] = values = []
        else:
            values.append(word)
    pairs = [dict(part.split("=") for part in text.split(",")) for text in options.get("--attribute-definitions", [])]
    arguments: dict[str, Any] = {"AttributeDefinitions": pairs} if pairs else {}
    (updates,) = options["--global-secondary-index-updates"]
    assert options["--table-name"] == [patient.table]
    await patient.client.update_table(
        TableName=patient.table, GlobalSecondaryIndexUpdates=json.loads(updates), **arguments
    )


async def until_index_is_gone(patient: Patient) -> None:
    while (await patient.client.describe_table(TableName=patient.table))["Table"].get("GlobalSecondaryIndexes"):
        await asyncio.sleep(0.1)


async def schema_of(patient: Patient) -> Mark:
    """Return what the doctor says of the schema, once no index is being built."""
    while True:
        findings = {finding.check: finding.mark for finding in (await patient.diagnose()).findings}
        if findings["index"] is not Mark.FAIL:
            return findings["schema"]
        await asyncio.sleep(0.1)


async def test_a_table_that_does_not_exist(patient: Patient) -> None:
    first = await patient.first()
    assert (first.check, first.mark) == ("table", Mark.FAIL)
    assert "list-tables" in first.repair[0]


@pytest.mark.parametrize("status", ["CREATING", "DELETING", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"])
async def test_a_table_that_cannot_be_used(patient: Patient, status: str) -> None:
    await patient.create()
    patient.proxy.rule = described_with(TableStatus=status)
    first = await patient.first()
    assert (first.check, first.mark) == ("table", Mark.FAIL)
    assert status in first.title


async def test_a_table_with_other_keys(patient: Patient) -> None:
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
    attributes = [{"AttributeName": "pk", "AttributeType": "S"}]
    made = raw_table(patient.table, KeySchema=keys, AttributeDefinitions=attributes, GlobalSecondaryIndexes=None)
    await patient.client.create_table(**made)
    first = await patient.first()
    assert (first.check, first.mark) == ("schema", Mark.FAIL)
    assert any("pk" in line for line in first.evidence)


async def test_a_table_without_the_index(patient: Patient) -> None:
    attributes = [{"AttributeName": "id", "AttributeType": "S"}]
    made = raw_table(patient.table, AttributeDefinitions=attributes, GlobalSecondaryIndexes=None)
    await patient.client.create_table(**made)
    first = await patient.first()
    assert (first.check, first.mark) == ("schema", Mark.FAIL)
    assert any(INDEX in line for line in first.evidence)
    assert "is missing" in first.title


@pytest.mark.parametrize("patient", ["moto", "fresh_local"], indirect=True)
async def test_the_command_that_adds_the_index_repairs_the_table(patient: Patient) -> None:
    attributes = [{"AttributeName": "id", "AttributeType": "S"}]
    await patient.client.create_table(
        **raw_table(patient.table, AttributeDefinitions=attributes, GlobalSecondaryIndexes=None)
    )
    (command,) = (await patient.first()).repair
    await run_update_table(patient, command)
    await until_indexes_are_made(patient.client, patient.table)
    assert await schema_of(patient) == Mark.OK


async def test_the_effects_of_a_missing_index_are_no_second_fault(patient: Patient) -> None:
    attributes = [{"AttributeName": "id", "AttributeType": "S"}]
    await patient.client.create_table(
        **raw_table(patient.table, AttributeDefinitions=attributes, GlobalSecondaryIndexes=None)
    )
    diagnosis = await patient.diagnose()
    assert [finding.check for finding in diagnosis.findings if finding.mark is Mark.FAIL] == ["schema"]


@pytest.mark.thorough
@pytest.mark.parametrize("patient", ["moto", "fresh_local"], indirect=True)
async def test_the_commands_that_replace_an_index_repair_the_table(patient: Patient) -> None:
    made = raw_table(patient.table)
    made["AttributeDefinitions"][2]["AttributeType"] = "S"
    await patient.client.create_table(**made)
    first = await patient.first()
    assert (first.check, first.mark) == ("schema", Mark.FAIL)
    delete, wait, add = first.repair
    assert "describe-table" in wait
    await run_update_table(patient, delete)
    await until_index_is_gone(patient)
    await run_update_table(patient, add)
    await until_indexes_are_made(patient.client, patient.table)
    assert await schema_of(patient) == Mark.OK


async def test_an_index_that_is_being_deleted(patient: Patient) -> None:
    await patient.create()
    described = (await patient.client.describe_table(TableName=patient.table))["Table"]
    (index,) = json.loads(json.dumps(described["GlobalSecondaryIndexes"], default=str))
    # DynamoDB Local no longer knows the types of its keys.
    patient.proxy.rule = described_with(
        GlobalSecondaryIndexes=[index | {"IndexStatus": "DELETING"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    diagnosis = await patient.diagnose()
    assert diagnosis.first is not None
    assert (diagnosis.first.check, diagnosis.first.mark) == ("index", Mark.FAIL)
    assert "Create" in diagnosis.first.repair[-1]
    assert not any(finding.check == "schema" and finding.mark is Mark.FAIL for finding in diagnosis.findings)


async def test_an_index_that_projects_a_part_stops_nothing(patient: Patient) -> None:
    made = raw_table(patient.table)
    made["GlobalSecondaryIndexes"][0]["Projection"] = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["type"]}
    await patient.client.create_table(**made)
    first = await patient.first()
    assert (first.check, first.mark) == ("schema", Mark.WARN)
    await patient.store(since=600)
    assert (await patient.first()).check == "workers"


async def test_a_command_that_was_not_told_of_shards(patient: Patient) -> None:
    await patient.create(shards=4)
    first = await patient.first()
    assert first.check == "schema"
    assert "needs the option --shards" in first.title
    assert "--shards N" in first.repair[0]
    # This event is in shard 1, as it would be with 2 shards; the ids of more events tell the number.
    outbox = DynamoDBOutbox(patient.client, table_name=patient.table, shards=4)
    await outbox.publish([Event("order.placed", id="order-2")])
    assert "--shards N" in (await patient.first()).repair[0]
    await outbox.publish([Event("order.placed", id=f"order-{number}") for number in range(3, 12)])
    assert "doctor --shards 4 " in (await patient.first()).repair[0]


@pytest.mark.parametrize("change", [{"IndexStatus": "CREATING"}, {"IndexStatus": "UPDATING", "Backfilling": True}])
async def test_an_index_that_is_being_built(patient: Patient, change: dict[str, Any]) -> None:
    await patient.create()
    described = (await patient.client.describe_table(TableName=patient.table))["Table"]
    # The response of the client has datetimes, which JSON lacks.
    (index,) = json.loads(json.dumps(described["GlobalSecondaryIndexes"], default=str))
    patient.proxy.rule = described_with(GlobalSecondaryIndexes=[index | change])
    first = await patient.first()
    assert (first.check, first.mark) == ("index", Mark.FAIL)


async def test_the_command_that_creates_a_table_turns_time_to_live_on(patient: Patient, run_in_thread: Any) -> None:
    options = ("--table", patient.table, "--region", "us-east-1", "--endpoint-url", patient.proxy.endpoint)
    ran = await run_in_thread("table", "create", "--yes", *options)
    assert ran.code == 0, ran
    diagnosis = await patient.diagnose()
    assert not any(finding.check == "time to live" and finding.mark is Mark.WARN for finding in diagnosis.findings)


async def test_time_to_live_that_is_off(patient: Patient) -> None:
    await DynamoDBOutbox(patient.client, table_name=patient.table).create_table()
    patient.assumed = replace(patient.assumed, retention=86_400)
    first = await patient.first()
    assert (first.check, first.mark) == ("time to live", Mark.WARN)
    assert "table ttl --enable" in first.repair[0]
    assert "the table grows" in first.evidence[0]
    sentence = (await patient.diagnose()).sentence()
    assert sentence.startswith("Nothing is wrong, as far as can be seen from here. A risk: ")


async def test_time_to_live_of_another_attribute(patient: Patient) -> None:
    await DynamoDBOutbox(patient.client, table_name=patient.table).create_table()
    wrong = {"Enabled": True, "AttributeName": "ttl"}
    await patient.client.update_time_to_live(TableName=patient.table, TimeToLiveSpecification=wrong)
    first = await patient.first()
    assert first.check == "time to live"
    assert "'ttl'" in first.title


async def test_an_index_with_less_capacity_than_the_table(patient: Patient) -> None:
    made = raw_table(patient.table, BillingMode="PROVISIONED")
    made["ProvisionedThroughput"] = {"ReadCapacityUnits": 10, "WriteCapacityUnits": 100}
    made["GlobalSecondaryIndexes"][0]["ProvisionedThroughput"] = {"ReadCapacityUnits": 10, "WriteCapacityUnits": 5}
    await patient.client.create_table(**made)
    live = {"Enabled": True, "AttributeName": "expireAt"}
    await patient.client.update_time_to_live(TableName=patient.table, TimeToLiveSpecification=live)
    first = await patient.first()
    assert (first.check, first.mark) == ("capacity", Mark.WARN)
    assert first.evidence == ("5 for the index, 100 for the table",)


async def test_an_index_that_is_left_over(patient: Patient) -> None:
    await patient.create(shards=2, former_index_name=INDEX)
    patient.settings = replace(patient.settings, shards=2)
    first = await patient.first()
    assert (first.check, first.mark) == ("former index", Mark.WARN)
    assert INDEX in first.title
    assert "Delete" in first.repair[0]


async def test_a_table_without_protection(patient: Patient, request: pytest.FixtureRequest) -> None:
    await patient.create()
    diagnosis = await patient.diagnose()
    protection = {finding.check: finding for finding in diagnosis.findings}["protection"]
    if "local" in request.node.name:
        assert protection.mark is Mark.SKIP
        return
    assert diagnosis.first is protection
    await protect(patient)
    assert (await patient.diagnose()).first is None


async def test_the_identity_of_the_credentials(moto_endpoint: str) -> None:
    found = await caller_identity(None, "us-east-1", endpoint_url=moto_endpoint)
    assert found is not None
    assert found.startswith("account 123456789012, arn:aws:")
    assert await caller_identity(None, "us-east-1", endpoint_url="http://127.0.0.1:9") is None
