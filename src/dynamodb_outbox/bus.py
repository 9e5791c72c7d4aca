"""`OutboxEventBus`: emits events, registers handlers, runs the worker."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from dynamodb_outbox.bound_loop import BoundLoop
from dynamodb_outbox.bus_handlers import BusHandlers, warn_of_many_handlers
from dynamodb_outbox.bus_operations import BusOperations
from dynamodb_outbox.cancellation import is_from_a_scope
from dynamodb_outbox.emit_options import EmitOptions, IfExists, event_of
from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.errors import WaitTimeoutError
from dynamodb_outbox.event import Event, with_payload
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.health import Health, HealthOptions
from dynamodb_outbox.health_checks import HealthMonitor
from dynamodb_outbox.lifecycle import Lifecycle
from dynamodb_outbox.middleware import Middleware, check_middleware
from dynamodb_outbox.observers import Observer
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import ErrorReporter, OnError
from dynamodb_outbox.sampling import Sampler
from dynamodb_outbox.start_reminder import StartReminder
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.typed.event_types import EventType, event_type_of, type_name
from dynamodb_outbox.typed.stored_form import from_stored
from dynamodb_outbox.validation import check_callable, check_outbox, check_timeout
from dynamodb_outbox.waiters import Waiters, wait_until_drained, why_not_running
from dynamodb_outbox.wording import shown
from dynamodb_outbox.worker.setup import WorkerSetup
from dynamodb_outbox.worker.unhandled import UnhandledTypes

T = TypeVar("T")
OnMaxHandlers = Callable[["OutboxEventBus", str, int], None]


class OutboxEventBus(BusHandlers, BusOperations):
    """Emits events into an outbox, and delivers them to handlers while it is started.

    `async with bus` starts the worker, and stops the worker at the end of the block. The block ends when the worker has
    ended. If the block is cancelled while the worker stops, the events of running handlers are released at once, and
    the cancellation is raised at the end. The bus belongs to the event loop that uses it first: a call from another
    running loop raises `UsageError`.

    Args:
        on_error: Called with every reported error; may be async. `None` means the `on_error` of the outbox.
        stop_timeout: How long leaving the `async with` block lets running handlers finish; see `stop`. Keep it below
            the time that your platform grants after its SIGTERM: ECS and Kubernetes grant 30 s by default. `None` lets
            each handler run until its lease ends, or until its own timeout if that is later.
        max_handlers: How many handlers a type may have before `on_max_handlers` is called. Many handlers of one type
            often mean that code registers a handler in a loop.
        on_max_handlers: Called with the bus, the type and the number of its handlers. `None` issues a warning.
        health: When the checks of `health()` find fault, and the heartbeat file.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        on_error: OnError | None = None,
        stop_timeout: float | None = 20.0,
        max_handlers: int = 10,
        on_max_handlers: OnMaxHandlers | None = None,
        health: HealthOptions = HealthOptions(),  # noqa: B008 - it is frozen
    ) -> None:
        check_outbox(outbox)
        check_timeout("stop_timeout", stop_timeout)
        for name, callback in (("on_error", on_error), ("on_max_handlers", on_max_handlers)):
            if callback is not None:
                check_callable(name, callback)
        self._outbox = outbox
        self._stop_timeout = stop_timeout
        on_many = warn_of_many_handlers if on_max_handlers is None else partial(on_max_handlers, self)
        self._registry = HandlerRegistry(max_handlers=max_handlers, on_max_handlers=on_many)
        self._loop = BoundLoop("bus", on_closed=self._forget)
        self._reminder = StartReminder(self._registry)
        self._emitter = Emitter(
            outbox, worker=lambda: self._lifecycle.worker, loop=self._loop, on_emitted=self._reminder.emitted
        )
        self._handler_middleware: list[Middleware] = []
        self._waiters = Waiters()
        self._health = HealthMonitor(outbox, health)
        self._setup = WorkerSetup(
            outbox=outbox,
            registry=self._registry,
            emitter=self._emitter,
            middleware=self._handler_middleware,
            unhandled=UnhandledTypes(self._registry),
            reporter=ErrorReporter(on_error or outbox.options.on_error, note=self._health.incidents.on_error),
            on_settled=self._waiters.on_settled,
            sampler=self._health.sampler,
            on_beat=self._health.on_beat,
        )
        self._lifecycle = Lifecycle(self._setup, reminder=self._reminder)

    # Middleware of handlers

    def add_handler_middleware(self, *middleware: Middleware) -> None:
        """Wrap every call of a handler in `async def m(event, call_next)`. The first middleware added is outermost.

        A middleware may pass on another payload or other metadata, or raise an error as the handler could. If it does
        not call `call_next`, or catches the handler's error, the handler counts as done. If it breaks the rules of the
        chain, the attempt fails with `MiddlewareError`.
        """
        check_middleware(middleware)
        self._handler_middleware.extend(middleware)

    # Emitting

    async def emit(
        self,
        type_or_event: object,
        payload: Any = None,
        *,
        id: str | None = None,
        occurred_at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        ordering_key: str | None = None,
        delay: float | None = None,
        deliver_at: datetime | None = None,
        if_exists: IfExists = "raise",
        transaction: Transaction | None = None,
    ) -> Event | None:
        """Store one event and return it. Once `emit` returns, the event will be delivered.

        Takes a type and a payload, an `Event`, an instance of a class that `event_type` registered, or an `EventType`
        and a payload. The payload of the returned event is plain, also that of an instance. Values such as dates and
        Enums in it are only converted where it is stored.

        `delay` (seconds) or `deliver_at` (a datetime with a time zone) postpones the delivery, by ten years at most. A
        second emit of an `id`, or of the same `Event`, raises `DuplicateEventError`; with `if_exists="ignore"` it
        changes nothing, and returns the stored event, whose `already_stored` is true. Events with the same
        `ordering_key` are handled one at a time, in the order in which their emits returned; such an event cannot be
        postponed. With a `transaction` the event is
        stored when the transaction commits. Returns None if an emit middleware dropped the event. Raises
        `InvalidEventError` before anything is sent, and `StorageError` if the event could not be stored. After a
        cancellation or a timeout the event may be stored: emit the same `Event` again.
        """
        options = EmitOptions(delay=delay, deliver_at=deliver_at, if_exists=if_exists)
        event = event_of(
            type_or_event, payload, id=id, occurred_at=occurred_at, metadata=metadata, ordering_key=ordering_key
        )
        stored = await self._emitter.emit([event], options, transaction=transaction)
        return stored[0] if stored else None

    async def emit_many(
        self,
        events: Iterable[object],
        *,
        delay: float | None = None,
        deliver_at: datetime | None = None,
        if_exists: IfExists = "raise",
        transaction: Transaction | None = None,
    ) -> list[Event]:
        """Store many events, 25 to a request; return them in their order. See `emit` for the options.

        Takes `Event` objects, and instances of classes that `event_type` registered.

        Events with the same ordering key keep their order in the list. If one event is invalid, nothing is sent, and
        `InvalidEventError` is raised. If this call did not store all events, it raises `PartialPublishError`, which has
        the published and the failed events.
        """
        options = EmitOptions(delay=delay, deliver_at=deliver_at, if_exists=if_exists)
        return await self._emitter.emit(events, options, transaction=transaction, call="bus.emit_many")

    def transaction(self) -> Transaction:
        """Make a transaction: `async with bus.transaction() as tx` commits all writes and events of the block, or none.

        In the block `tx.put`, `tx.update`, `tx.delete` and `tx.check` collect writes; `tx.emit` and
        `bus.emit(..., transaction=tx)` collect events. See `Transaction` for the errors of the commit.
        """
        return Transaction(self._emitter.commit, prepare=self._emitter.prepare, outbox=self._outbox)

    def add_emit_middleware(self, *middleware: Middleware) -> None:
        """Run `async def m(event, call_next)` before an event is stored. The first middleware added is outermost.

        A middleware may pass on another event, raise an error, or drop the event by not calling `call_next`. If it
        breaks the rules of the chain, the emit raises `MiddlewareError`. Events are stored after all middleware, so
        `call_next` returns before the event is stored. `emit_many` runs the middleware for ten events at once, each in
        a copy of the caller's context.
        """
        check_middleware(middleware)
        self._emitter.middleware.extend(middleware)

    def notify(self) -> None:
        """Wake the worker, to poll now for events that were stored without `emit`. May be called from any thread."""
        if (worker := self._lifecycle.worker) is not None:
            self._loop.run(worker.wake)

    def _forget_holds(self) -> None:
        if (worker := self._lifecycle.worker) is not None:
            worker.forget_holds()

    def add_observer(self, observer: Observer) -> None:
        """Call an observer from now on for everything that happens to the events of the outbox; see `Observer`."""
        self._outbox.observers.add(observer)

    def remove_observer(self, observer: Observer) -> bool:
        """Remove an observer that `add_observer` or the outbox added; return whether it was there."""
        return self._outbox.observers.remove(observer)

    # Lifecycle

    @property
    def running(self) -> bool:
        """Whether a worker of this bus polls. It is false as soon as `stop` is called."""
        return self._lifecycle.running

    async def start(self) -> None:
        """Start the worker. May be called from any task.

        Raises `UsageError` if the bus is started already, and `ClientClosedError` if its client is closed. If
        DynamoDB is down, `start` succeeds: polling errors are reported, and polls are tried again.
        """
        self._loop.check("bus.start")
        await self._lifecycle.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Stop polling, and let running handlers finish. Does nothing if the bus is not started.

        After `timeout` seconds, running handlers are cancelled and their events are released: another worker takes the
        events at once, and no attempt is counted. Without a timeout, each handler may run until its lease ends, or
        until its own timeout if that is later. `stop` may be called from any task, and again with a shorter timeout. A
        call from a handler, or from a task that it started, returns at once, because the stop waits for the handler.
        """
        self._loop.check("bus.stop")
        check_timeout("timeout", timeout)
        await self._lifecycle.stop(timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # If a cancelled scope ended the block, handlers still have `stop_timeout` to finish.
        await self._lifecycle.end(self._stop_timeout, shielded=kind is not None and is_from_a_scope())

    def health(self) -> Health:
        """Tell how well this bus is, from what its worker has noted. May be called from any thread.

        It makes no request and does not wait, so a probe may call it at any time. While it is called, the worker
        samples the outbox every 15 s for the checks `holds`, `oldest_due` and `dead_letters`; see `HealthOptions`.
        """
        return self._health.health(self._lifecycle.worker, was_stopped=self._lifecycle.was_stopped)

    @property
    def outbox(self) -> Outbox:
        """The outbox of this bus."""
        return self._outbox

    @property
    def sampler(self) -> Sampler:
        """The last sample of the outbox, for everybody in this process who wants one."""
        return self._health.sampler

    async def run_once(self) -> int:
        """Recover, claim one batch, run its handlers and settle, without a running worker; return the number settled.

        Use it in cron jobs and in functions that a platform calls, such as AWS Lambda. A call handles one event of each
        ordering key at most; call it again until it returns 0. There is no quarantine: events that may kill their
        process are handled at the same time as the rest of the batch. Raises `StorageError`.
        """
        self._loop.check("bus.run_once")
        return await self._lifecycle.run_once()

    def _forget(self, call: str) -> None:
        """Forget the worker and the waiters of a closed loop, because they no longer run."""
        self._lifecycle.forget()
        self._waiters.clear()

    # Waiting

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no event of the table is PENDING or PROCESSING. Events with a retry or a delay are PENDING.

        Events of other processes are counted in the index, which lags behind the table, so `drain` may miss an event
        that another process has just stored. Raises `WaitTimeoutError`, with the counts, after `timeout` seconds.
        Raises `WorkerError` if events are left, and the worker of this bus has ended though nobody stopped it.
        """
        self._loop.check("bus.drain")
        self._lifecycle.refuse_inside("bus.drain()")
        check_timeout("timeout", timeout)
        await wait_until_drained(
            self._outbox,
            timeout=timeout,
            worker=lambda: self._lifecycle.worker,
            unhandled=self._setup.unhandled.still_unhandled,
        )

    @overload
    async def wait_for(self, type: str, *, timeout: float = 5.0) -> Event: ...
    @overload
    async def wait_for(self, type: builtins.type[T] | EventType[T], *, timeout: float = 5.0) -> Event[T]: ...
    async def wait_for(self, type: str | builtins.type | EventType[Any], *, timeout: float = 5.0) -> Event:
        """Return the next event of a type that this bus completes. Raises `WaitTimeoutError` after `timeout`.

        For a class, the payload of the event is an instance; an invalid payload raises `InvalidPayloadError`.
        """
        self._loop.check("bus.wait_for")
        check_timeout("timeout", timeout)
        known, name = event_type_of(type), type_name(type)
        with anyio.move_on_after(timeout):
            event = await self._waiters.next_of(name)
            return event if known is None else with_payload(event, from_stored(event, known))
        stopped = why_not_running(self._lifecycle.worker)
        raise WaitTimeoutError(f"this bus completed no {shown(name)} event within {timeout:g} s{stopped}")
