"""The checks of `bus.health()`: from what the parts of a bus have noted to what is the matter.

A check reads what is noted already. It makes no request and does not wait, and any thread may call it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from dynamodb_outbox.health import Check, Health, HealthOptions, HealthStatus, check_health_options
from dynamodb_outbox.heartbeat_file import HeartbeatFile
from dynamodb_outbox.incidents import LOSS_SECONDS, Incidents
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.sampling import SAMPLE_SECONDS, Sampler
from dynamodb_outbox.stored_events import Sample
from dynamodb_outbox.wording import shown
from dynamodb_outbox.worker.heartbeat import LoopHeartbeat
from dynamodb_outbox.worker.vitals import LifeStage, Vitals
from dynamodb_outbox.worker.worker import Worker

SLOTS_FULL_SECONDS: Final = 10.0
"""Slots are often full for a moment. If none becomes free for this long, every handler is slow."""
HELD_SECONDS: Final = 3600.0
"""A hold is intended. One that lasts for longer may have been forgotten."""
STANDSTILL_SECONDS: Final = 600.0
"""A bus stays DEGRADED for this long after its event loop stood still."""

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY
_ORDER: Final = (HEALTHY, DEGRADED, UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, and whether it lets the process be live and ready."""

    check: Check
    live: bool = True
    ready: bool = True


class HealthMonitor:
    """Makes the `Health` of a bus, and keeps what the checks need: incidents, samples, and the heartbeat file."""

    def __init__(self, outbox: Outbox, options: HealthOptions) -> None:
        check_health_options(options)
        self._clock = outbox.options.clock
        self._slots = outbox.options.slots
        self._options = options
        self._file = None if options.heartbeat_file is None else HeartbeatFile(options.heartbeat_file)
        self.incidents = Incidents()
        interval = SAMPLE_SECONDS if options.sample_interval is None else options.sample_interval
        self.sampler = Sampler(outbox, interval=interval, random=outbox.options.random)

    def on_beat(self, vitals: Vitals) -> None:
        """Touch the heartbeat file, if the loops of the worker turn."""
        if self._file is not None and vitals.is_live:
            self._file.touch()

    def health(self, worker: Worker | None, *, was_stopped: bool) -> Health:
        """Look at everything that is noted."""
        findings = [_STOPPED if was_stopped else _NOT_STARTED] if worker is None else list(self._of(worker))
        return Health(
            status=max((finding.check.status for finding in findings), key=_ORDER.index),
            live=all(finding.live for finding in findings),
            ready=all(finding.ready for finding in findings),
            checks=tuple(finding.check for finding in findings),
        )

    def _of(self, worker: Worker) -> Iterator[Finding]:
        vitals = worker.vitals
        stage = vitals.stage(is_done=worker.is_done)
        yield _STAGES[stage]
        if stage in (LifeStage.FORKED, LifeStage.LOOP_CLOSED, LifeStage.ENDED):
            return  # the rest is about a worker that runs
        yield self._event_loop(vitals)
        is_running = stage is LifeStage.RUNNING  # a stop ends the loops, and nothing is claimed any more
        if is_running:
            yield from (self._loop(vitals, loop) for loop in vitals.loops)
        yield self._storage(vitals.loops if is_running else {})
        yield self._leases()
        if is_running:
            yield self._slots_in_use(vitals)
            if self._options.sample_interval is not None:
                self.sampler.want()
                yield from self._sampled()

    # What the worker notes

    def _event_loop(self, vitals: Vitals) -> Finding:
        name, heartbeat = "event_loop", vitals.event_loop
        if (seconds := heartbeat.late) > heartbeat.tolerance:
            reason = (
                f"the event loop has run nothing for {seconds:.0f} s: code blocks it, or the process gets no CPU; "
                "run blocking code in a thread, with anyio.to_thread.run_sync"
            )
            check = self._check(name, DEGRADED, reason, age=seconds, seconds=seconds)
            return Finding(check, live=not vitals.is_event_loop_stuck, ready=False)
        if (last := heartbeat.last_standstill) is not None and (
            age := monotonic() - last.ended_at
        ) < STANDSTILL_SECONDS:
            reason = (
                f"the event loop ran nothing for {last.seconds:.0f} s, until {age:.0f} s ago: code blocked it, or the "
                "process was stopped or got no CPU; leases may have run out"
            )
            return Finding(self._check(name, DEGRADED, reason, age=age, seconds=last.seconds))
        return _fine(name)

    def _loop(self, vitals: Vitals, loop: str) -> Finding:
        seconds = vitals.still_for(loop)
        if seconds is None:
            return _fine(loop)
        reason = f"the {loop} loop has made no step for {seconds:.0f} s, and will make none: restart the process"
        return Finding(self._check(loop, UNHEALTHY, reason, age=seconds, seconds=seconds), live=False, ready=False)

    def _storage(self, loops: Mapping[str, LoopHeartbeat]) -> Finding:
        # Each attribute is read once, because the worker may change it meanwhile.
        failing = {name: noted for name, each in loops.items() if (noted := each.failing) is not None}
        if (settling := self.incidents.settles_failing) is not None:
            failing["settling"] = settling
        if not failing:
            return _fine("storage")
        name, first = min(failing.items(), key=lambda item: item[1].since)
        seconds = monotonic() - first.since
        status = _worse(seconds, -1, self._options.storage_unhealthy)
        reason = f"{name} has failed for {seconds:.0f} s (failures in a row: {first.errors}): {first.error}"
        is_ready = not (self._options.readiness_needs_storage and first.is_storage)
        return Finding(self._check("storage", status, reason, age=seconds, failing=sorted(failing)), ready=is_ready)

    def _slots_in_use(self, vitals: Vitals) -> Finding:
        since = vitals.loops["polling"].waits_since
        if since is None or (seconds := monotonic() - since) < SLOTS_FULL_SECONDS:
            return _fine("slots")
        reason = (
            f"all {self._slots} slots have been taken for {seconds:.0f} s, so this worker claims nothing: its handlers "
            "are slow; make them quicker, raise concurrency, or start more workers"
        )
        return Finding(self._check("slots", DEGRADED, reason, age=seconds, slots=self._slots))

    def _leases(self) -> Finding:
        if not (count := self.incidents.leases_lost):
            return _fine("leases")
        reason = (
            f"this process lost {count:,} {'lease' if count == 1 else 'leases'} in the last {LOSS_SECONDS / 60:.0f} "
            "minutes, so events may be handled twice: a handler is slow, or the event loop stood still"
        )
        return _finding("leases", DEGRADED, reason, lost=count)

    # What the last sample says

    def _sampled(self) -> Iterator[Finding]:
        sampler = self.sampler
        if (stale := sampler.stale_for) is not None:
            why = f": {sampler.error}" if sampler.error else ""
            reason = f"the outbox could not be sampled for {stale:.0f} s, so its backlog is not known{why}"
            yield Finding(self._check("sample", DEGRADED, reason, age=stale))
        elif (sample := sampler.latest) is None:
            yield _finding("sample", HEALTHY, "the outbox is being sampled for the first time")
        else:
            now = self._clock()
            holds = [hold for hold in sampler.holds if hold.until is None or hold.until.timestamp() > now]
            yield _fine("sample")
            yield self._held(holds)
            yield self._oldest_due(sample, holds_all=any(hold.type is None for hold in holds))
            yield _dead_letters(sample)

    def _held(self, holds: Sequence[Hold]) -> Finding:
        if not holds:
            return _fine("holds")
        first = min(holds, key=lambda hold: hold.since)
        what, argument = (
            ("all types", "") if first.type is None else (f"the type {shown(first.type)}", shown(first.type))
        )
        reason = f"{first.by} holds {what}: {first.reason}; bus.resume({argument}) ends it"
        status = _worse(self._clock() - first.since.timestamp(), HELD_SECONDS, math.inf)
        data = {"types": ["*" if hold.type is None else hold.type for hold in holds]}
        return Finding(Check(name="holds", status=status, reason=reason, since=first.since, data=data))

    def _oldest_due(self, sample: Sample, *, holds_all: bool) -> Finding:
        seconds, since = sample.oldest_due_age, sample.oldest_due
        status = _worse(seconds, self._options.oldest_due_degraded, self._options.oldest_due_unhealthy)
        if status is HEALTHY:
            return _finding("oldest_due", HEALTHY, seconds=seconds)
        reason = f"the oldest due event (of {sample.due}) has waited for {seconds:.0f} s: "
        if holds_all:
            status, reason = HEALTHY, f"{reason}all types are held"
        else:
            reason += "too few workers run, their handlers are slow, or no worker has a handler for it"
        return Finding(Check(name="oldest_due", status=status, reason=reason, since=since, data={"seconds": seconds}))

    def _check(self, name: str, status: HealthStatus, reason: str, *, age: float, **data: Any) -> Check:
        since = datetime.fromtimestamp(self._clock() - age, UTC)
        return Check(name=name, status=status, reason=reason, since=since, data=data)


def _dead_letters(sample: Sample) -> Finding:
    if not sample.failed.at_least:
        return _fine("dead_letters")
    are = "event is" if str(sample.failed) == "1" else "events are"
    reason = f"{sample.failed} {are} FAILED: read why with bus.get_failed_events(), then call bus.retry_events(ids)"
    data: dict[str, Any] = {}
    if sample.blocked_keys.at_least:
        keys = "ordering key is blocked" if str(sample.blocked_keys) == "1" else "ordering keys are blocked"
        reason += f"; {sample.blocked_keys} {keys}: bus.skip_events(ids) lets the later events of a key go on"
        data["blocked_keys"] = str(sample.blocked_keys)
    elif sample.blocked_keys.is_unknown:
        reason += f"; only the latest {sample.failed.at_least:,} were counted, and older ones may block ordering keys"
    latest = sample.latest_failed
    if latest is not None:
        data["latest"] = latest.isoformat(timespec="seconds")
    return _finding("dead_letters", DEGRADED, reason, failed=str(sample.failed), **data)


def _worse(value: float, degraded: float, unhealthy: float) -> HealthStatus:
    return UNHEALTHY if value > unhealthy else DEGRADED if value > degraded else HEALTHY


def _finding(name: str, status: HealthStatus, reason: str = "", **data: Any) -> Finding:
    return Finding(Check(name=name, status=status, reason=reason, data=data))


def _fine(name: str) -> Finding:
    return _finding(name, HEALTHY)


def _worker(status: HealthStatus, reason: str, *, live: bool = True, ready: bool = False) -> Finding:
    return Finding(Check(name="worker", status=status, reason=reason), live=live, ready=ready)


_NOT_STARTED: Final = _worker(UNHEALTHY, "the bus is not started: use `async with bus`, or await bus.start()")
_STOPPED: Final = _worker(UNHEALTHY, "the bus was stopped; await bus.start() starts it again")
_STAGES: Final = {
    LifeStage.STARTING: _worker(UNHEALTHY, "the worker is starting"),
    LifeStage.RUNNING: _worker(HEALTHY, "", ready=True),
    LifeStage.STOPPING: _worker(DEGRADED, "the bus stops: it claims nothing more, and lets running handlers finish"),
    LifeStage.ENDED: _worker(
        UNHEALTHY,
        "the worker has ended though nobody has stopped it: the application cancelled it, or an exception that ends "
        "the process was raised; restart the process, or await bus.start()",
        live=False,
    ),
    LifeStage.LOOP_CLOSED: _worker(
        UNHEALTHY, "the event loop of the worker was closed before bus.stop(); restart the process", live=False
    ),
    LifeStage.FORKED: _worker(
        UNHEALTHY,
        "this process was forked from the process in which the bus runs, and has no worker; start the bus after the "
        "fork, in each process",
        live=False,
    ),
}
