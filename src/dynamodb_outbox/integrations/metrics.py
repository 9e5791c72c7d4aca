"""The metrics of an outbox, in one table: the integrations, the dashboards and the alert rules are made of it.

Attributes never have event ids, error texts or payloads, because each different value makes another time series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SYSTEM: Final = "messaging.system"
TABLE: Final = "outbox.table"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
TYPE: Final = "messaging.destination.name"
HANDLER: Final = "messaging.destination.subscription.name"
ERROR: Final = "error.type"
OUTCOME: Final = "outbox.outcome"
STATUS: Final = "outbox.status"
REASON: Final = "outbox.reason"
LOOP: Final = "outbox.loop"
CALL: Final = "outbox.call"

SYSTEM_NAME: Final = "dynamodb_outbox"
"""The value of `messaging.system`."""
SCOPE: Final = "dynamodb_outbox"
"""The name of the instrumentation scope."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions that the names `messaging.*` are from."""

_CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_AGE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

Kind = Literal["counter", "histogram", "gauge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `attributes` are those that it has besides `messaging.system` and `outbox.table`."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name that a Prometheus exporter gives it; histograms have `_bucket`, `_sum` and `_count` after it."""
        name = self.name.replace(".", "_")
        if self.unit == "s":
            name += "_seconds"
        return f"{name}_total" if self.kind == "counter" else name


def label_of(attribute: str) -> str:
    """Return the label that a Prometheus exporter makes of an attribute."""
    return attribute.replace(".", "_")


SENT: Final = Metric(
    name="messaging.client.sent.messages",
    kind="counter",
    unit="{message}",
    description="Events that were emitted. With error.type, the emit raised that error.",
    attributes=(OPERATION, TYPE, ERROR),
)
CONSUMED: Final = Metric(
    name="messaging.client.consumed.messages",
    kind="counter",
    unit="{message}",
    description="Events that a worker claimed.",
    attributes=(OPERATION, TYPE),
)
OPERATION_DURATION: Final = Metric(
    name="messaging.client.operation.duration",
    kind="histogram",
    unit="s",
    description="How long calls of the storage take: emit, commit, claim, settle, renew, recover.",
    attributes=(OPERATION, OPERATION_TYPE, ERROR),
    buckets=_CALL_BUCKETS,
)
PROCESS_DURATION: Final = Metric(
    name="messaging.process.duration",
    kind="histogram",
    unit="s",
    description="How long calls of handlers take, by outcome.",
    attributes=(OPERATION, TYPE, HANDLER, OUTCOME, ERROR),
    buckets=_CALL_BUCKETS,
)
WAIT_DURATION: Final = Metric(
    name="dynamodb_outbox.event.wait.duration",
    kind="histogram",
    unit="s",
    description="From the time when an event is due to the start of its first attempt.",
    attributes=(TYPE,),
    buckets=_AGE_BUCKETS,
)
CRITICAL_DURATION: Final = Metric(
    name="dynamodb_outbox.event.critical.duration",
    kind="histogram",
    unit="s",
    description="From the time when something happened (occurred_at) to the time when its event is completed.",
    attributes=(TYPE,),
    buckets=_AGE_BUCKETS,
)
COMPLETED: Final = Metric(
    name="dynamodb_outbox.event.completed",
    kind="counter",
    unit="{event}",
    description="Events whose handlers have all succeeded.",
    attributes=(TYPE,),
)
FAILED: Final = Metric(
    name="dynamodb_outbox.event.failed",
    kind="counter",
    unit="{event}",
    description="Events that became FAILED, which are dead letters, by reason. Some have the type ?: it is unknown.",
    attributes=(TYPE, REASON),
)
RETRIED: Final = Metric(
    name="dynamodb_outbox.event.retried",
    kind="counter",
    unit="{event}",
    description="Attempts that failed and are followed by another one.",
    attributes=(TYPE,),
)
RELEASED: Final = Metric(
    name="dynamodb_outbox.event.released",
    kind="counter",
    unit="{event}",
    description="Claims that were given back without an attempt: stop, held or unhandled.",
    attributes=(TYPE, REASON),
)
RECOVERED: Final = Metric(
    name="dynamodb_outbox.event.recovered",
    kind="counter",
    unit="{event}",
    description="Events that were taken from a worker that died or hung.",
)
EVENTS: Final = Metric(
    name="dynamodb_outbox.events",
    kind="gauge",
    unit="{event}",
    description="Stored events by state. Counts stop at a limit, 1,000 by default: then there are at least as many.",
    attributes=(STATUS,),
)
BLOCKED_KEYS: Final = Metric(
    name="dynamodb_outbox.blocked_keys",
    kind="gauge",
    unit="{key}",
    description="Ordering keys whose events wait for a dead letter, of the latest 1,000 dead letters by default.",
)
KEY_BLOCKED: Final = Metric(
    name="dynamodb_outbox.key.blocked",
    kind="counter",
    unit="{key}",
    description="Dead letters that blocked their ordering keys.",
    attributes=(TYPE,),
)
KEY_UNBLOCKED: Final = Metric(
    name="dynamodb_outbox.key.unblocked",
    kind="counter",
    unit="{key}",
    description="Ordering keys that go on by this process: after a retry, a skip, a discard, or a late completion.",
    attributes=(REASON,),
)
OLDEST_DUE_AGE: Final = Metric(
    name="dynamodb_outbox.oldest_due.age",
    kind="gauge",
    unit="s",
    description="For how long the oldest due event has waited; 0 if nothing is due.",
)
OLDEST_EXPIRED_AGE: Final = Metric(
    name="dynamodb_outbox.oldest_expired_lease.age",
    kind="gauge",
    unit="s",
    description="For how long the oldest expired lease has waited for a recovery; 0 without one.",
)
SAMPLE_TIME: Final = Metric(
    name="dynamodb_outbox.sample.time",
    kind="gauge",
    unit="s",
    description="When the table was last sampled, in seconds since 1970.",
)
SLOTS: Final = Metric(
    name="dynamodb_outbox.worker.slots",
    kind="gauge",
    unit="{event}",
    description="How many events the worker can hold at once.",
)
SLOTS_USED: Final = Metric(
    name="dynamodb_outbox.worker.slots.used",
    kind="gauge",
    unit="{event}",
    description="How many events the worker held after its last poll.",
)
LAST_POLL_TIME: Final = Metric(
    name="dynamodb_outbox.worker.last_poll.time",
    kind="gauge",
    unit="s",
    description="When a poll last succeeded, in seconds since 1970. A worker without a free slot does not poll.",
)
LEASE_LOST: Final = Metric(
    name="dynamodb_outbox.lease.lost",
    kind="counter",
    unit="{event}",
    description="Renewals and outcomes that were refused, because another worker may have the event.",
    attributes=(TYPE,),
)
CLAIM_REFUSED: Final = Metric(
    name="dynamodb_outbox.claim.refused",
    kind="counter",
    unit="{event}",
    description="Claims that were refused, because another worker was quicker. Some are normal with several workers.",
)
POLL_ERRORS: Final = Metric(
    name="dynamodb_outbox.poll.errors",
    kind="counter",
    unit="{error}",
    description="Polls, recoveries and renewals that failed.",
    attributes=(LOOP, ERROR),
)
SETTLE_ERRORS: Final = Metric(
    name="dynamodb_outbox.settle.errors",
    kind="counter",
    unit="{event}",
    description="Outcomes that could not be written. Their events are handled again after the lease.",
    attributes=(OUTCOME, ERROR),
)
THROTTLES: Final = Metric(
    name="dynamodb_outbox.throttles",
    kind="counter",
    unit="{call}",
    description="Calls that DynamoDB throttled. They are repeated while there is time.",
    attributes=(CALL,),
)

METRICS: Final = (
    SENT,
    CONSUMED,
    OPERATION_DURATION,
    PROCESS_DURATION,
    WAIT_DURATION,
    CRITICAL_DURATION,
    COMPLETED,
    FAILED,
    RETRIED,
    RELEASED,
    RECOVERED,
    EVENTS,
    BLOCKED_KEYS,
    KEY_BLOCKED,
    KEY_UNBLOCKED,
    OLDEST_DUE_AGE,
    OLDEST_EXPIRED_AGE,
    SAMPLE_TIME,
    SLOTS,
    SLOTS_USED,
    LAST_POLL_TIME,
    LEASE_LOST,
    CLAIM_REFUSED,
    POLL_ERRORS,
    SETTLE_ERRORS,
    THROTTLES,
)
"""All metrics."""
