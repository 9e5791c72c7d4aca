"""The service: its bus, the probe of it, and the installed versions."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.stored_events import EventState

OLDEST_SDK: Final = (2, 25)
"""The oldest aiobotocore that the library supports."""


def check_app(evidence: Evidence) -> Finding:
    """Whether the bus of `--app` handles the events of this table."""
    app, settings = evidence.app, evidence.settings
    if app is None:
        return skip("app", "not checked: name your bus with --app module:bus")
    problems = list(app.problems)
    if app.table_name not in (None, settings.table_name):
        problems.insert(0, f"the bus uses the table {app.table_name!r}, not {settings.table_name!r}")
    states = (EventState.DUE, EventState.SCHEDULED, EventState.FAILED)
    stored = {event.type for state in states for event in evidence.of(state)}
    if missing := sorted(stored - set(app.types)):
        problems.append(f"it has no handler for {', '.join(map(repr, missing[:5]))}")
    if not problems:
        return ok("app", f"the bus has handlers for {len(app.types)} types")
    return Finding(
        check="app",
        mark=Mark.FAIL if missing or app.table_name not in (None, settings.table_name) else Mark.WARN,
        title=f"the bus {settings.app} does not fit: {problems[0]}",
        evidence=tuple(problems),
        cause="the code at hand is not that of the workers, or it lacks a handler or an option",
        repair=("register the handler, and deploy it to all workers of the table",),
        docs="docs/how-to/deploys.md#roll-out-a-new-event-type",
    )


def check_probe(evidence: Evidence) -> Finding:
    """Whether the event of `--emit-probe` was delivered."""
    probe = evidence.probe
    if probe is None:
        error = evidence.errors.get("probe")
        return skip("probe", f"failed: {error}" if error else "not made: add --emit-probe")
    if probe.state is EventState.COMPLETED:
        return ok("probe", f"an event was delivered within {probe.seconds:.1f} s")
    if probe.was_taken:
        return ok("probe", f"a worker took an event within {probe.seconds:.1f} s; it has no handler for it")
    return Finding(
        check="probe",
        mark=Mark.FAIL,
        title=f"no worker has taken a new event within {probe.seconds:.0f} s",
        evidence=(f"the event {probe.event_id} was stored and discarded",),
        cause="no worker runs on this table, all its slots are taken, or it polls less often",
        repair=("start the service, and search its log for PollingError",),
        docs="docs/troubleshooting.md#an-event-stays-pending",
    )


def check_versions(evidence: Evidence) -> Finding:
    """Whether the library supports the installed SDK."""
    found = evidence.versions.get("aiobotocore", "")
    try:
        release = tuple(int(part) for part in found.split(".")[:2])
    except ValueError:
        return skip("versions", f"not known: aiobotocore is {found!r}")
    about = ", ".join(f"{name} {evidence.versions[name]}" for name in ("dynamodb-outbox", "aiobotocore", "python"))
    if release >= OLDEST_SDK:
        return ok("versions", about)
    return Finding(
        check="versions",
        mark=Mark.WARN,
        title=f"aiobotocore {found} is older than {'.'.join(map(str, OLDEST_SDK))}",
        evidence=(about,),
        cause="the environment was not installed from the requirements of the library",
        repair=("pip install --upgrade dynamodb-outbox aiobotocore",),
        docs="docs/how-to/clients.md",
    )
