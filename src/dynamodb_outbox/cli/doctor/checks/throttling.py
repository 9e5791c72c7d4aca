"""Whether DynamoDB throttles."""

from __future__ import annotations

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok
from dynamodb_outbox.errors import ThrottledError


def check_throttling(evidence: Evidence) -> Finding:
    """Whether a call of the doctor was throttled: then the calls of workers are throttled, too."""
    given_up = list(evidence.errors_of(ThrottledError))
    if not given_up and not evidence.throttles:
        return ok("throttling", "no call was throttled")
    settings, table = evidence.settings, evidence.table
    name = settings.table_name
    if table is not None and table.billing == "PROVISIONED":
        cause = f"the provisioned capacity is too small: {table.read_units} read and {table.write_units} write units"
        repair = [settings.aws("dynamodb", "update-table", "--table-name", name, "--billing-mode", "PAY_PER_REQUEST")]
    else:
        cause = "one partition of the index is at its limit, or the on-demand table grows faster than DynamoDB allows"
        repair = [settings.aws("dynamodb", "describe-table", "--table-name", name)]
    return Finding(
        check="throttling",
        mark=Mark.FAIL if given_up else Mark.WARN,
        title="DynamoDB throttles the calls",
        evidence=(f"{len(evidence.throttles)} calls were throttled", *(str(error) for error in given_up[:1])),
        cause=cause,
        repair=tuple(repair),
        docs="docs/troubleshooting.md#dynamodb-throttles",
    )
