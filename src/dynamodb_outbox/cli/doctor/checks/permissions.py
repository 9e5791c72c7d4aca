"""The IAM actions of each role."""

from __future__ import annotations

from dynamodb_outbox.cli.doctor.checks.connection import IAM_PAGE
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.errors import CredentialsError

OPTIONAL = (
    "dynamodb:PartiQLUpdate",
    "dynamodb:PartiQLInsert",
    "dynamodb:PartiQLDelete",
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
)
"""Without these, the outbox does its work in another way, or only a check is missing."""
ONLY_FOR_KEYS = {
    "emit": ("dynamodb:UpdateItem", "dynamodb:BatchGetItem"),
    "operator": ("dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"),
}
"""What a role needs only for events with an ordering key."""


def check_permissions(evidence: Evidence) -> Finding:
    """Whether the credentials allow what their role needs; `assumed.role` says which role they have."""
    if not evidence.permissions:
        return skip("permissions", "not known: no action could be tried")
    denied = {each.action: each.reason for each in evidence.permissions if each.is_allowed is False}
    role = evidence.assumed.role
    mine = {action for name, needed in evidence.needed.items() if role in (name, "all") for action in needed}
    missing = [action for action in denied if action in mine]
    if not missing:
        others = {name for name, needed in evidence.needed.items() if name != role and denied.keys() & set(needed)}
        about = f"; they lack some of the roles {', '.join(sorted(others))}" if others else ""
        unknown = [each.action for each in evidence.permissions if each.is_allowed is None]
        note = f"; not tried: {', '.join(unknown)}" if unknown else ""
        return ok("permissions", f"these credentials have all actions of the role {role!r}{about}{note}")
    soft = (*OPTIONAL, *ONLY_FOR_KEYS.get(role, ()))
    hard = [action for action in missing if action not in soft]
    first = (hard or missing)[0]
    identity = f" ({evidence.identity})" if evidence.identity else ""
    return Finding(
        check="permissions",
        mark=Mark.FAIL if hard else Mark.WARN,
        title=f"the credentials{identity} lack {', '.join(hard or missing)}",
        evidence=(denied[first], f"each action was tried without changing anything, for the role {role!r}"),
        cause=f"the policy of the role {role!r} is not complete",
        repair=(evidence.settings.command("template", "iam", "--role", role),),
        docs=IAM_PAGE,
    )


def was_denied(evidence: Evidence, part: str) -> bool:
    """Tell whether a part of the evidence is missing because a permission is."""
    return isinstance(evidence.errors.get(part), CredentialsError)
