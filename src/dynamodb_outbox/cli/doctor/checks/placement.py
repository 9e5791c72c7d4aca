"""Events that wait where no worker polls: in other shards, or in windows of another Region."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.values import span
from dynamodb_outbox.cli.verdict import LATE_SECONDS

UNLIKELY: Final = 0.001


def check_shards(evidence: Evidence) -> Finding:
    """Whether all processes have the same number of shards."""
    settings = evidence.settings
    if settings.shards == 1:
        return ok("shards", "the index is not divided")
    if evidence.lags is None:
        return skip("shards", "not known: the shards could not be read")
    late = {lag.shard: evidence.age(lag.due_at) for lag in evidence.lags if evidence.age(lag.due_at) > LATE_SECONDS}
    beyond = {shard: age for shard, age in late.items() if shard >= settings.shards}
    within = sorted(shard for shard in late if shard < settings.shards)
    # A worker with fewer shards serves the first ones only, so exactly the last ones are late.
    served = within[0] if within and within == list(range(within[0], settings.shards)) else 0
    if beyond:
        places = f"shard {min(beyond)}" if len(beyond) == 1 else f"the shards {', '.join(map(str, sorted(beyond)))}"
        title = f"events wait in {places}; workers with shards={settings.shards} read only 0 to {settings.shards - 1}"
        cause = f"a process that emits has more shards than {settings.shards}, and at least {max(beyond) + 1}"
        oldest = max(beyond.values())
    elif 0 < served < settings.shards and len(within) > 1 and _are_served(evidence, served):
        title = f"events wait only in the shards {served} to {settings.shards - 1}"
        cause = f"the workers have shards={served}, and the processes that emit have {settings.shards}"
        oldest = max(late[shard] for shard in within)
    else:
        return ok("shards", f"no shard of {settings.shards} is left behind")
    again = replace(settings, shards=max(settings.shards, max(late) + 1)).command("doctor")
    return Finding(
        check="shards",
        mark=Mark.FAIL,
        title=title,
        evidence=(f"the oldest has waited for {span(oldest)}",),
        cause=f"{cause}. All processes of a table need the same option `shards`",
        repair=(
            "find the option `shards` in the configuration of each service, and deploy the largest one everywhere",
            f"{again}   # with this number; it should find nothing",
        ),
        docs="docs/how-to/shards.md",
    )


def _are_served(evidence: Evidence, served: int) -> bool:
    """Tell whether workers read the first shards, in which nothing is late, or all events are elsewhere by chance.

    A worker that is alone and has nothing to do shows no sign of life.
    """
    due = 0 if evidence.sample is None else evidence.sample.due.at_least
    chance = (1 - served / evidence.settings.shards) ** due
    return bool(evidence.signs_of_life) or chance < UNLIKELY


def check_regions(evidence: Evidence) -> Finding:
    """Whether the window of a dead worker waits for a worker of its Region."""
    if evidence.windows is None or evidence.connection is None:
        return skip("windows", "not known: the windows could not be read")
    expired = [window for window in evidence.windows if evidence.age(window.lease_expires_at) > LATE_SECONDS]
    if not expired:
        return ok("windows", f"{len(evidence.windows)} workers have a window, and none waits for its recovery")
    here = evidence.connection.region
    foreign = [window for window in expired if window.region != here]
    if not foreign:
        return ok("windows", "see workers")
    region = foreign[0].region
    return Finding(
        check="windows",
        mark=Mark.FAIL,
        title=f"a window of the Region {region} waits for its recovery, and this is {here}",
        evidence=(f"its lease ended {span(evidence.age(foreign[0].lease_expires_at))} ago: {foreign[0].id}",),
        cause=f"a worker in {region} has died, and no other worker runs there. Workers recover only windows of their "
        "own Region",
        repair=(f"start a worker in {region}",),
        docs="docs/how-to/deploys.md#tables-in-several-regions",
    )
