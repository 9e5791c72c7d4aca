"""The checks: functions from evidence to a finding, in the order of causes: faults that stop everything come first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dynamodb_outbox.cli.doctor.checks.blocked_keys import check_blocked_keys
from dynamodb_outbox.cli.doctor.checks.connection import check_clock, check_credentials, check_endpoint, check_latency
from dynamodb_outbox.cli.doctor.checks.dead_letters import (
    check_dead_letters,
    check_poison,
    check_unhandled_failed,
    check_unreadable,
)
from dynamodb_outbox.cli.doctor.checks.delivery import (
    check_busy,
    check_hanging,
    check_holds,
    check_lost,
    check_retries,
    check_unhandled,
    check_workers,
)
from dynamodb_outbox.cli.doctor.checks.permissions import check_permissions
from dynamodb_outbox.cli.doctor.checks.placement import check_regions, check_shards
from dynamodb_outbox.cli.doctor.checks.schema import check_index, check_schema
from dynamodb_outbox.cli.doctor.checks.service import check_app, check_probe, check_versions
from dynamodb_outbox.cli.doctor.checks.table import (
    check_capacity,
    check_former_index,
    check_protection,
    check_table,
    check_time_to_live,
)
from dynamodb_outbox.cli.doctor.checks.throttling import check_reads, check_throttling
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding

CHECKS: Final[tuple[Callable[[Evidence], Finding], ...]] = (
    # Faults that stop everything.
    check_credentials,
    check_endpoint,
    check_table,
    check_index,
    check_schema,
    check_permissions,
    check_throttling,
    check_reads,
    check_clock,
    # Why events wait.
    check_holds,
    check_shards,
    check_regions,
    check_lost,
    check_workers,
    check_unhandled,
    check_hanging,
    check_busy,
    check_retries,
    check_app,
    check_probe,
    # Events that have failed.
    check_blocked_keys,
    check_poison,
    check_unreadable,
    check_unhandled_failed,
    check_dead_letters,
)
RISKS: Final[tuple[Callable[[Evidence], Finding], ...]] = (
    check_time_to_live,
    check_capacity,
    check_former_index,
    check_latency,
    check_versions,
    check_protection,
)
"""The checks for what may go wrong later. They explain no fault."""
