"""Credentials, the endpoint, the clock and the latency."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.settings import last
from dynamodb_outbox.cli.values import span
from dynamodb_outbox.errors import (
    CredentialsError,
    InvalidRequestError,
    StorageError,
    TableMismatchError,
    TableNotFoundError,
    ThrottledError,
)

NOT_ALLOWED: Final = ("AccessDenied", "NotAuthorized")
SKEW_WARN: Final = 1.0
FUTURE: Final = timedelta(seconds=5)
"""An event that occurs later than this was emitted by a process whose clock is ahead."""
_LOGIN: Final = re.compile(r"\b(?:\w*SSO\w*|[Tt]oken has expired|TokenRetrievalError|CredentialRetrievalError)\b")
_ANSWERS: Final = (InvalidRequestError, TableMismatchError, TableNotFoundError, ThrottledError)
"""Errors that DynamoDB has sent."""
IAM_PAGE: Final = "docs/how-to/iam.md"


def check_credentials(evidence: Evidence) -> Finding:
    """Whether AWS accepts the credentials at all."""
    settings = evidence.settings
    reason = _refusal(evidence)
    if reason is None:
        if evidence.connection is None:
            return skip("credentials", "not known: DynamoDB did not answer")
        return ok("credentials", f"accepted: {evidence.identity or evidence.connection.region}")
    is_missing = any(error.missing for error in evidence.errors_of(CredentialsError))
    is_old = any(word in reason.lower() for word in ("expired", "sso"))
    cause = "there are none" if is_missing else "they have expired" if is_old else "AWS does not know them"
    login = settings.aws("sso", "login")
    return Finding(
        check="credentials",
        mark=Mark.FAIL,
        title="there are no credentials" if is_missing else "AWS does not accept the credentials of this shell",
        evidence=(reason,),
        cause=f"the credentials are not usable: {cause}",
        repair=(
            login if settings.profile else f"export AWS_PROFILE=...   # or: {login}",
            settings.aws("sts", "get-caller-identity"),
        ),
        docs=IAM_PAGE,
    )


def _refusal(evidence: Evidence) -> str | None:
    """Return why the credentials are not accepted; None if they are, or if that is not known."""
    for error in evidence.errors_of(CredentialsError):
        if not error.reason.startswith(NOT_ALLOWED):
            return error.reason
    # A login that has expired is an error of the SDK, before anything is sent.
    others = (error for error in evidence.errors_of(StorageError) if not isinstance(error, CredentialsError))
    texts = [str(error) for error in others]
    return next((text for text in texts if _LOGIN.search(text)), None)


def check_endpoint(evidence: Evidence) -> Finding:
    """Whether DynamoDB answers."""
    settings = evidence.settings
    if evidence.connection is not None:
        found = evidence.connection
        return ok("endpoint", f"{found.endpoint} in {found.region} answers")
    error = evidence.errors.get("connection")
    if error is None or isinstance(error, (CredentialsError, *_ANSWERS)):
        return skip("endpoint", "DynamoDB answers, and refuses the calls" if error else "not known: nothing was asked")
    url = settings.endpoint_url or f"https://dynamodb.{settings.region or 'REGION'}.amazonaws.com"
    return Finding(
        check="endpoint",
        mark=Mark.FAIL,
        title="DynamoDB does not answer",
        evidence=(str(error) or "no answer in time", f"the endpoint is {url}"),
        cause="the endpoint or the region is wrong, or the network does not lead there: a security group, a missing "
        "VPC endpoint, a proxy, DNS",
        repair=(f"curl -sS -m 5 {url}", "env | grep -E 'AWS_(ENDPOINT_URL|REGION|DEFAULT_REGION)|PROXY'"),
        docs="docs/how-to/clients.md",
    )


def check_clock(evidence: Evidence) -> Finding:
    """Whether the clock of this machine is right: leases and due times are times of the workers' clocks."""
    skew = None if evidence.connection is None else evidence.connection.skew
    if skew is None:
        return skip("clock", "not known: the responses have no date")
    if abs(skew) <= SKEW_WARN:
        agrees = ok("clock", "the clock of this machine agrees with DynamoDB to about a second")
        return _check_emitters(evidence) or agrees
    is_bad = abs(skew) > evidence.assumed.lease / 10
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        check="clock",
        mark=Mark.FAIL if is_bad else Mark.WARN,
        title=f"the clock of this machine is at least {abs(skew):.1f} s {direction} the clock of DynamoDB",
        evidence=(f"compared with the Date of the responses; a lease has {evidence.assumed.lease:g} s",),
        cause="clocks are not synchronised. A worker with a clock ahead takes events from others before their leases "
        "end; one with a clock behind finds events late. Look at the machines of the workers, too",
        repair=("timedatectl status", "chronyc tracking", "sudo systemctl restart chronyd"),
        docs="docs/troubleshooting.md#an-event-is-handled-twice",
    )


def _check_emitters(evidence: Evidence) -> Finding | None:
    """Judge the clocks of the processes that emit: no event can occur in the future."""
    events = [event for state in evidence.events for event in evidence.of(state)]
    ahead = [(event.occurred_at, event) for event in events if event.occurred_at > evidence.now + FUTURE]
    if not ahead:
        return None
    latest, _ = max(ahead, key=lambda pair: pair[0])
    _, example = min(ahead, key=lambda pair: pair[0])
    return Finding(
        check="clock",
        mark=Mark.WARN,
        title=f"events say that they occur in the future, up to {span((latest - evidence.now).total_seconds())} ahead",
        evidence=(f"{len(ahead)} of {len(events)} events that were read; for example {example.id}",),
        cause="the clock of a process that emits is ahead, so its events are due too late. They are delivered once "
        "this time has come",
        repair=(
            evidence.settings.command("events", "show", *last([example.id])),
            "timedatectl status   # where it runs",
        ),
        docs="docs/troubleshooting.md#an-event-is-handled-late",
    )


def check_latency(evidence: Evidence) -> Finding:
    """Whether calls are quick."""
    if evidence.connection is None:
        return skip("latency", "not known: DynamoDB did not answer")
    latency = evidence.connection.latency
    if latency <= evidence.assumed.slow:
        return ok("latency", f"a small read takes {latency * 1000:.0f} ms")
    return Finding(
        check="latency",
        mark=Mark.WARN,
        title=f"a small read takes {latency * 1000:.0f} ms",
        evidence=("the median of 5 calls; 5 to 20 ms are usual within a region",),
        cause="DynamoDB is far away, or the network or this machine is busy",
        repair=(evidence.settings.command("doctor"),),
        docs="docs/performance.md",
    )
