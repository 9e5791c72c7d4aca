"""The first lines of each reference page: what the page is about, and which guides to read."""

from __future__ import annotations

from typing import Final

BUS: Final = """\
An application uses an `OutboxEventBus` to emit events, to register handlers, and to run the worker.

| to | see | and the guide |
|---|---|---|
| emit | [`emit`](#outboxeventbusemit), [`emit_many`](#outboxeventbusemit_many), \
[`transaction`](#outboxeventbustransaction) | [options of an emit](../how-to/emit-options.md), [failed \
emits](../how-to/failed-emits.md): an emit repeats its request for ten seconds |
| register a handler | [`on`](#outboxeventbuson), [`subscribe`](#outboxeventbussubscribe), \
[`once`](#outboxeventbusonce), `HandlerOptions` | [retries](../how-to/retries.md), [long \
handlers](../how-to/long-handlers.md), [several handlers](../how-to/several-handlers.md) |
| run the worker | [`start`](#outboxeventbusstart), [`stop`](#outboxeventbusstop), \
[`running`](#outboxeventbusrunning), [`run_once`](#outboxeventbusrun_once) | [deploys](../how-to/deploys.md) |
| know how it is | [`health`](#outboxeventbushealth), `Health`, `HealthOptions` | [health](../how-to/health.md) |
| wait, in tests | [`drain`](#outboxeventbusdrain), [`wait_for`](#outboxeventbuswait_for) | \
[testing](../how-to/testing.md) |
| repair events | [`get_failed_events`](#outboxeventbusget_failed_events), \
[`retry_events`](#outboxeventbusretry_events), [`skip_events`](#outboxeventbusskip_events), \
[`discard_events`](#outboxeventbusdiscard_events), \
[`replace_event`](#outboxeventbusreplace_event) | [dead letters](../how-to/retries.md#dead-letters), \
[repairing](../how-to/repairing.md) |
| hold events | [`hold`](#outboxeventbushold), [`resume`](#outboxeventbusresume), [`holds`](#outboxeventbusholds) | \
[holds](../how-to/repairing.md#hold-a-type-or-everything) |
| wrap emits and handlers | [`add_emit_middleware`](#outboxeventbusadd_emit_middleware), \
[`add_handler_middleware`](#outboxeventbusadd_handler_middleware) | [middleware](../how-to/middleware.md) |
| observe | [`add_observer`](#outboxeventbusadd_observer), [`remove_observer`](#outboxeventbusremove_observer) | \
[observing](../how-to/observing.md) |"""

EVENTS: Final = """\
Events, the deliveries that handlers get, transactions, and the backoffs of retries. The guides: \
[payload types](../how-to/payload-types.md) and [numbers](../how-to/numbers.md), \
[transactions](../how-to/transactions.md), [exactly-once handlers](../how-to/exactly-once-handlers.md), \
[retries](../how-to/retries.md)."""

ADAPTER: Final = """\
The bus and the worker know storage only by the protocol `Outbox`. An adapter implements it, and passes the contract \
suite in [tests/contract](../../tests/contract). Applications do not need this page."""

ERRORS: Final = """\
Every error of the library is an `OutboxError`. A call raises it, or the worker reports it to `on_error` and goes on. \
Troubleshooting says what causes each error and what to do: for [errors that a call \
raises](../troubleshooting.md#errors-that-a-call-raises), and for [errors that are \
reported](../troubleshooting.md#errors-that-are-reported). Times are seconds, sizes are bytes, and `attempt` counts \
from 1."""
