"""Whether DynamoDB throttles, and whether everything could be read."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.cli.doctor.checks.schema import check_index, check_schema
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.errors import CredentialsError, ThrottledError
from dynamodb_outbox.event_states import LISTED

CONTENTS: Final = ("sample", "holds", "workers", "windows", "lags", *map(str, LISTED))
"""The parts of the evidence that say whether events wait."""


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


def check_reads(evidence: Evidence) -> Finding:
    """Whether the events could be read, so that a diagnosis without findings means something."""
    # Missing permissions and throttles have their own checks.
    explained = (CredentialsError, ThrottledError)
    failed = {
        part: error for part, error in evidence.errors.items() if part in CONTENTS and not isinstance(error, explained)
    }
    if not failed:
        return ok("reads", "nothing that was asked for failed")
    if check_schema(evidence).mark is Mark.FAIL or check_index(evidence).mark is Mark.FAIL:
        return skip("reads", f"not known: {', '.join(failed)} need the index; see schema and index")
    part, error = next(iter(failed.items()))
    return Finding(
        check="reads",
        mark=Mark.FAIL,
        title=f"{len(failed)} parts of the outbox cannot be read: {', '.join(failed)}",
        evidence=(f"{part}: {error or 'no answer in time'}",),
        cause="DynamoDB answers other calls, but fails these: it has an incident, or an emulator lacks them",
        repair=(evidence.settings.command("doctor"), "open https://health.aws.amazon.com/health/status"),
        docs="docs/troubleshooting.md#a-call-takes-ten-seconds",
    )
