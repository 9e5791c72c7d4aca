"""The table: that it exists, its capacity, time to live and protection."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.cli.confirming import assent
from dynamodb_outbox.cli.doctor.checks.schema import NO_TABLE, PAGE, USABLE, delete_index, describe
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.errors import TableNotFoundError

TTL_ATTRIBUTE: Final = "expireAt"


def check_table(evidence: Evidence) -> Finding:
    """Whether the table exists and can be used."""
    settings = evidence.settings
    if any(evidence.errors_of(TableNotFoundError)):
        return Finding(
            check="table",
            mark=Mark.FAIL,
            title=f"the table {settings.table_name!r} does not exist here",
            evidence=(f"region {settings.region or '(default)'}, {_endpoint(evidence)}",),
            cause="the name, the region, the account or the endpoint is wrong, or somebody has deleted the table",
            repair=(settings.aws("dynamodb", "list-tables"), settings.command("table", "create", *assent())),
            docs=PAGE,
        )
    if evidence.table is None:
        return skip("table", NO_TABLE)
    status = evidence.table.status
    if status in USABLE:
        return ok("table", f"{evidence.table.name} is {status}")
    causes = {
        "CREATING": "the table is being created",
        "DELETING": "somebody deletes the table",
        "INACCESSIBLE_ENCRYPTION_CREDENTIALS": "DynamoDB cannot use the KMS key of the table: it is disabled or "
        "deleted, or its policy has changed",
        "ARCHIVED": "the table was archived, because its KMS key was inaccessible for seven days",
    }
    return Finding(
        check="table",
        mark=Mark.FAIL,
        title=f"the table is {status}",
        evidence=(f"DescribeTable says TableStatus {status}",),
        cause=causes.get(status, "the table cannot be used in this status"),
        repair=(
            settings.aws("dynamodb", "wait", "table-exists", "--table-name", settings.table_name),
            describe(settings),
        ),
        docs=PAGE,
    )


def _endpoint(evidence: Evidence) -> str:
    if evidence.connection is not None:
        return evidence.connection.endpoint
    return evidence.settings.endpoint_url or "the endpoint of AWS"


def check_time_to_live(evidence: Evidence) -> Finding:
    """Whether DynamoDB deletes completed events and tombstones."""
    found = evidence.time_to_live
    if found is None:
        return skip("time to live", "not known: DescribeTimeToLive was refused")
    is_on = found.status in ("ENABLED", "ENABLING")
    if is_on and found.attribute == TTL_ATTRIBUTE:
        return ok("time to live", f"on, for the attribute {TTL_ATTRIBUTE}")
    retention = evidence.assumed.retention
    title = f"time to live is on for {found.attribute!r}, not for {TTL_ATTRIBUTE!r}" if is_on else "time to live is off"
    why = (
        f"your service has a retention of {retention:g} s, but DynamoDB deletes no completed event: the table grows"
        if retention
        else "DynamoDB deletes no completed event, whatever the retention of your service, and no tombstone of a window"
    )
    return Finding(
        check="time to live",
        mark=Mark.WARN,
        title=title,
        evidence=(why,),
        cause="the table was made without the templates, or its time to live was changed",
        repair=(evidence.settings.command("table", "ttl", "--enable", *assent()),),
        docs=PAGE,
    )


def check_capacity(evidence: Evidence) -> Finding:
    """Whether an index has fewer write units than the table: then it throttles the writes of the table."""
    table = evidence.table
    if table is None:
        return skip("capacity", NO_TABLE)
    if table.billing != "PROVISIONED" or not table.write_units:
        return ok("capacity", f"billing mode {table.billing}")
    smaller = [index for index in table.indexes if (index.write_units or table.write_units) < table.write_units]
    if not smaller:
        return ok("capacity", f"{table.write_units} write units, and as many for each index")
    return Finding(
        check="capacity",
        mark=Mark.WARN,
        title=f"the index {smaller[0].name} has fewer write units than the table",
        evidence=(f"{smaller[0].write_units} for the index, {table.write_units} for the table",),
        cause="each write of an event also writes the index, so the smaller capacity throttles both",
        repair=(
            evidence.settings.aws(
                "dynamodb", "update-table", "--table-name", table.name, "--billing-mode", "PAY_PER_REQUEST"
            ),
        ),
        docs=PAGE,
    )


def check_former_index(evidence: Evidence) -> Finding:
    """Whether an index is left over from before a move to shards."""
    table, settings = evidence.table, evidence.settings
    if table is None:
        return skip("former index", NO_TABLE)
    left = [name for name in table.former_indexes if name != settings.former_index]
    if not left or table.differences:
        return ok("former index", "no index is left over")
    return Finding(
        check="former index",
        mark=Mark.WARN,
        title=f"the index {left[0]} is not used with shards={settings.shards}",
        evidence=("each write of an event pays for it",),
        cause="a move to shards was finished, and its former index was not deleted; or --shards is not the option of "
        "your service",
        repair=(delete_index(settings, left[0]),),
        docs="docs/how-to/shards.md",
    )


def check_protection(evidence: Evidence) -> Finding:
    """Whether the table can be restored, and not be deleted by mistake."""
    table = evidence.table
    if table is None or evidence.point_in_time_recovery is None:
        return skip("protection", "not known: the backups could not be described")
    off = []
    if not evidence.point_in_time_recovery:
        off.append("point-in-time recovery")
    if table.is_protected is False:
        off.append("deletion protection")
    if not off:
        return ok("protection", "point-in-time recovery and deletion protection are on")
    return Finding(
        check="protection",
        mark=Mark.WARN,
        title=f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off",
        evidence=("events that are not delivered yet are only in this table",),
        cause="the table was made for development, or without the templates",
        repair=(
            evidence.settings.aws(
                "dynamodb",
                "update-continuous-backups",
                "--table-name",
                table.name,
                "--point-in-time-recovery-specification",
                "PointInTimeRecoveryEnabled=true",
            )
            if not evidence.point_in_time_recovery
            else evidence.settings.aws(
                "dynamodb", "update-table", "--table-name", table.name, "--deletion-protection-enabled"
            ),
        ),
        docs=PAGE,
    )
