"""The templates say what `TableSchema` says, and real tools accept them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import cfnlint.api
import cfnlint.decode
import hcl2
import pytest
from aiobotocore.session import get_session

import dynamodb_outbox.dynamodb
from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.schema.table import TTL_ATTRIBUTE
from dynamodb_outbox.dynamodb.schema.templates.__main__ import FILES, main
from dynamodb_outbox.dynamodb.schema.templates.parameters import DEFAULT_SCHEMA
from dynamodb_outbox.dynamodb.transport.client import DynamoDBClient

TEMPLATES = Path(__file__).parents[2] / "templates"
ADAPTER = Path(dynamodb_outbox.dynamodb.__file__).parent
INSPECTING = ADAPTER / "inspecting"
"""What the doctor reads. The doctor is a program for operators, with their permissions."""
DEVELOPMENT = {"create_table", "update_time_to_live"}
VERIFY = {"DescribeTable", "DescribeTimeToLive"}


def template_text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_file_is_what_the_schema_renders(name: str) -> None:
    assert template_text(name) == FILES[name](DEFAULT_SCHEMA), "make templates"


def test_command_writes_every_file_and_there_is_no_other(tmp_path: Path) -> None:
    main([str(tmp_path / "new")])
    written = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert written == {path.name: path.read_bytes() for path in TEMPLATES.iterdir()}
    assert set(written) == set(FILES)


def cloudformation_template() -> dict[str, Any]:
    template, errors = cfnlint.decode.decode_str(template_text("cloudformation.yaml"))
    assert not errors
    assert template is not None
    return template


def test_cfn_lint_has_nothing_to_say() -> None:
    matches = cfnlint.api.lint(template_text("cloudformation.yaml"), config={"include_checks": ["I"]})
    assert [str(match) for match in matches] == []


def test_cloudformation_enables_time_to_live_and_keeps_the_table() -> None:
    resource = cloudformation_template()["Resources"]["OutboxTable"]
    assert resource["Properties"]["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}
    assert resource["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.fixture
async def stacks(moto_endpoint: str) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "cloudformation", region_name="us-east-1", endpoint_url=moto_endpoint
    ) as client:
        yield client


async def create_stack(stacks: Any, **parameters: str) -> dict[str, str]:
    """Create a stack of the template; its outputs."""
    name = parameters["TableName"]
    await stacks.create_stack(
        StackName=name,
        TemplateBody=template_text("cloudformation.yaml"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    (stack,) = (await stacks.describe_stacks(StackName=name))["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, {}),
        ({"Projection": "KEYS_ONLY", "IndexKeys": "statusShard"}, {"shards": 4}),
        ({"IndexKeys": "both"}, {"shards": 4, "former_index_name": "status-gsiSortKey-index"}),
    ],
)
async def test_stack_gives_a_table_that_is_verified(
    stacks: Any, moto_client: Any, table_name: str, parameters: dict[str, str], options: dict[str, Any]
) -> None:
    outputs = await create_stack(stacks, TableName=table_name, **parameters)

    await DynamoDBOutbox(moto_client, table_name=table_name, **options).verify_table()
    # moto creates the table, but leaves the template's time to live undone: it is applied here as it stands there.
    resource = cloudformation_template()["Resources"]["OutboxTable"]
    await moto_client.update_time_to_live(
        TableName=table_name, TimeToLiveSpecification=dict(resource["Properties"]["TimeToLiveSpecification"])
    )
    await DynamoDBOutbox(moto_client, table_name=table_name, retention=86_400, **options).verify_table()

    table = (await moto_client.describe_table(TableName=table_name))["Table"]
    assert table["GlobalSecondaryIndexes"][0]["Projection"]["ProjectionType"] == parameters.get("Projection", "ALL")
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert outputs == {"TableName": table_name, "TableArn": table["TableArn"]}


def test_cloudformation_parameters_have_the_defaults_of_the_schema() -> None:
    parameters = cloudformation_template()["Parameters"]
    assert parameters["TableName"]["Default"] == DEFAULT_SCHEMA.table_name == "events-outbox"
    assert parameters["Projection"]["Default"] == DEFAULT_SCHEMA.projection == "ALL"
    assert parameters["IndexKeys"]["Default"] == "status"


def plain(value: Any) -> Any:
    """Strip the quotes of strings, which python-hcl2 keeps since version 8."""
    match value:
        case str():
            return value.removeprefix('"').removesuffix('"')
        case dict():
            return {plain(key): plain(member) for key, member in value.items() if not key.startswith("__")}
        case list():
            return [plain(member) for member in value]
        case _:
            return value


def terraform_blocks(kind: str) -> dict[str, Any]:
    parsed = plain(hcl2.loads(template_text("outbox.tf")))
    return {name: body for block in parsed[kind] for name, body in block.items()}


def keys_of(block: dict[str, Any]) -> list[dict[str, str]]:
    roles = {"hash_key": "HASH", "range_key": "RANGE"}
    return [{"AttributeName": block[name], "KeyType": role} for name, role in roles.items() if name in block]


DYNAMIC = ("attribute", "global_secondary_index")


def filled_in(content: list[dict[str, Any]], iterator: str, value: str) -> list[dict[str, Any]]:
    """The content of a dynamic block, for one value."""
    text = json.dumps(content).replace(f"${{{iterator}.value}}", value)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def terraform_locals() -> dict[str, Any]:
    (found,) = plain(hcl2.loads(template_text("outbox.tf")))["locals"]
    return dict(found)


def test_terraform_has_the_keys_of_the_schema() -> None:
    table = terraform_blocks("resource")["aws_dynamodb_table"]["outbox"]
    definition = DEFAULT_SCHEMA.definition()
    fixed = {attribute["name"]: attribute["type"] for attribute in table["attribute"]}
    attributes, indexes = (block[kind] for block, kind in zip(table["dynamic"], DYNAMIC, strict=True))
    assert attributes["for_each"] == indexes["for_each"] == "${local.index_keys}"
    for key in DEFAULT_SCHEMA.indexes.values():
        (attribute,) = filled_in(attributes["content"], "attribute", key)
        fixed[attribute["name"]] = attribute["type"]
    assert fixed == {each["AttributeName"]: each["AttributeType"] for each in definition["AttributeDefinitions"]}
    assert keys_of(table) == definition["KeySchema"]
    assert table["billing_mode"] == definition["BillingMode"]
    found = [filled_in(indexes["content"], "global_secondary_index", key)[0] for key in DEFAULT_SCHEMA.indexes.values()]
    assert [{"IndexName": index["name"], "KeySchema": keys_of(index)} for index in found] == [
        {"IndexName": index["IndexName"], "KeySchema": index["KeySchema"]}
        for index in definition["GlobalSecondaryIndexes"]
    ]
    assert terraform_locals() == {
        "index_keys": '${var.index_keys == "both" ? ["status", "statusShard"] : [var.index_keys]}'
    }


def test_terraform_enables_time_to_live_and_keeps_the_table() -> None:
    table = terraform_blocks("resource")["aws_dynamodb_table"]["outbox"]
    assert table["ttl"] == [{"attribute_name": TTL_ATTRIBUTE, "enabled": True}]
    assert table["lifecycle"] == [{"prevent_destroy": True}]


def test_terraform_variables_and_outputs() -> None:
    table = terraform_blocks("resource")["aws_dynamodb_table"]["outbox"]
    variables = terraform_blocks("variable")
    assert table["name"] == "${var.table_name}"
    assert table["dynamic"][1]["global_secondary_index"]["content"][0]["projection_type"] == "${var.projection}"
    assert variables["table_name"]["default"] == DEFAULT_SCHEMA.table_name
    assert variables["projection"]["default"] == DEFAULT_SCHEMA.projection
    assert variables["index_keys"]["default"] == "status"
    assert {name: output["value"] for name, output in terraform_blocks("output").items()} == {
        "table_name": "${aws_dynamodb_table.outbox.name}",
        "table_arn": "${aws_dynamodb_table.outbox.arn}",
    }


def operations_in(files: Iterable[Path]) -> set[str]:
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    return set(re.findall(r'\._?call\(\s*"(\w+)"', source))


def operations_of_the_client() -> set[str]:
    return {name for name, member in vars(DynamoDBClient).items() if isinstance(member, property)} - {"meta"}


def actions_of(operation: str) -> set[str]:
    # IAM has no action for these two: each statement and each entry needs the action of its kind.
    if operation == "batch_execute_statement":
        return {"dynamodb:PartiQLUpdate", "dynamodb:PartiQLInsert", "dynamodb:PartiQLDelete"}
    if operation == "transact_write_items":
        kinds = ("PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
        return {f"dynamodb:{kind}" for kind in kinds}
    return {"dynamodb:" + "".join(word.capitalize() for word in operation.split("_"))}


def statements() -> list[dict[str, Any]]:
    policy = json.loads(template_text("iam-policy.json"))
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def test_client_protocol_is_what_the_adapter_calls() -> None:
    delivering = [path for path in ADAPTER.rglob("*.py") if path.parent != INSPECTING]
    assert operations_in(delivering) == operations_of_the_client()


def test_inspector_calls_two_operations_more_than_workers_and_both_only_read() -> None:
    more = operations_in(INSPECTING.glob("*.py")) - operations_of_the_client()
    assert more == {"scan", "describe_continuous_backups"}


def test_policy_allows_what_the_adapter_calls_and_no_more() -> None:
    allowed = [action for statement in statements() for action in statement["Action"]]
    assert len(allowed) == len(set(allowed))
    assert set(allowed) == set().union(*map(actions_of, operations_of_the_client() - DEVELOPMENT))
    assert {statement["Effect"] for statement in statements()} == {"Allow"}


def test_policy_has_no_wildcard_and_queries_the_indexes_only() -> None:
    table = f"arn:aws:dynamodb:REGION:ACCOUNT_ID:table/{DEFAULT_SCHEMA.table_name}"
    indexes = [f"{table}/index/{name}" for name in DEFAULT_SCHEMA.indexes]
    for statement in statements():
        assert not re.search(r"[*?]", json.dumps(statement))
        assert statement["Resource"] == (indexes if statement["Action"] == ["dynamodb:Query"] else table)


def test_policy_sets_the_verification_apart() -> None:
    apart = {s["Sid"]: set(s["Action"]) for s in statements()}["VerifyTable"]
    assert apart == {f"dynamodb:{operation}" for operation in VERIFY}
