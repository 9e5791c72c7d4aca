"""Chains of middleware around emits and handler calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol

from dynamodb_outbox.errors import ConfigurationError, MiddlewareError
from dynamodb_outbox.event import Event
from dynamodb_outbox.validation import fits, is_async
from dynamodb_outbox.wording import shape, shown

CANCEL_SECONDS: Final = 5.0
"""How long a chain waits for a cancelled handler or middleware that an outer middleware left running."""


class CallNext(Protocol):
    """The rest of the chain. A middleware calls it once at most, and awaits it."""

    @property
    def in_transaction(self) -> bool:
        """Whether the event is emitted in a transaction, whose commit stores it."""
        ...

    def __call__(self, event: Event, /) -> Coroutine[Any, Any, None]:
        """Pass on the event, or another event."""
        ...


Middleware = Callable[[Event, CallNext], Awaitable[None]]
"""`async def m(event, call_next)`: awaits `call_next` with this or another event, drops the event, or raises."""
End = Callable[[Event], Awaitable[None]]
"""The end of a chain: the handler, or the function that stores the event."""


def check_middleware(middleware: Sequence[object]) -> None:
    """Raise `ConfigurationError` unless each can be called as middleware."""
    for each in middleware:
        if not is_async(each):
            raise ConfigurationError(
                f"middleware={shown(each)}: it must be an async function, async def middleware(event, call_next)"
            )
        if not fits(each, 2):
            raise ConfigurationError(f"middleware={shown(each)}: it must take two arguments, (event, call_next)")


async def run_chain(
    middleware: Sequence[Middleware],
    event: Event,
    end: End,
    *,
    keeps_identity: bool = False,
    in_transaction: bool = False,
) -> None:
    """Run an event through the middleware, the first one outermost, to the end of the chain.

    Raises the errors of the middleware and of `end`. Raises `MiddlewareError` for a middleware that broke the rules of
    the chain, even if another middleware swallowed the error. `keeps_identity`: the type, the id
    and the ordering key must not change.
    """
    await _Chain(tuple(middleware), end, keeps_identity=keeps_identity, in_transaction=in_transaction).run(
        event, 0, None
    )


class _Chain:
    """The middleware of one call, which does not change while the call runs."""

    __slots__ = ("end", "in_transaction", "keeps_identity", "middleware", "violation")

    def __init__(
        self, middleware: tuple[Middleware, ...], end: End, *, keeps_identity: bool, in_transaction: bool
    ) -> None:
        self.middleware = middleware
        self.end = end
        self.keeps_identity = keeps_identity
        self.in_transaction = in_transaction
        self.violation: MiddlewareError | None = None

    async def run(self, event: Event, position: int, caller: _Step | None) -> None:
        """Run the chain from a position on. `caller` is the step of the previous middleware, or None at the start."""
        if caller is not None:
            caller.task = asyncio.current_task()
        if position == len(self.middleware):
            await self.end(event)
            return
        step = _Step(self, event, position)
        try:
            await self.middleware[position](event, step)
        except (asyncio.CancelledError, GeneratorExit):
            # Do not wait here: the caller waits for this task, or the coroutine is being closed.
            step.abandon()
            raise
        except BaseException:
            await step.end()
            raise
        finally:
            step.has_returned = True
        if step.is_unfinished:
            await step.end()
            step.violate("returned before the rest of the chain had ended; write `await call_next(event)`")
        if self.violation is not None:
            # Raise the violation again, because a middleware may have caught it, and the call would count as a success.
            raise self.violation


class _Step:
    """The `call_next` of one middleware."""

    __slots__ = ("_call", "_chain", "_event", "_position", "has_returned", "task")

    def __init__(self, chain: _Chain, event: Event, position: int) -> None:
        self._chain = chain
        self._event = event
        self._position = position
        self._call: Coroutine[Any, Any, None] | None = None
        self.has_returned = False
        self.task: asyncio.Task[Any] | None = None
        """The task in which the rest of the chain has started."""

    def __call__(self, *given: Event) -> Coroutine[Any, Any, None]:
        if self._call is not None:
            raise self.violate(
                "called call_next twice; call it once: raise an error to have a handler retried, and call bus.emit to "
                "store another event"
            )
        if self.has_returned:
            raise self.violate("called call_next after it had returned; write `await call_next(event)`")
        if len(given) != 1:
            raise self.violate(f"called call_next with {len(given)} arguments; write `await call_next(event)`")
        (event,) = given
        if not isinstance(event, Event):
            raise self.violate(
                f"handed on {shape(event)} instead of an Event; write `await call_next(dataclasses.replace(event, "
                "payload=...))`"
            )
        if self._chain.keeps_identity and event is not self._event:
            for name, value, kept in (
                ("type", event.type, self._event.type),
                ("id", event.id, self._event.id),
                ("ordering key", event.ordering_key, self._event.ordering_key),
            ):
                if value != kept:
                    raise self.violate(
                        f"handed on the {name} {shown(value)} instead of {shown(kept)}; the handlers are chosen "
                        "already: around handlers, a middleware may replace payload and metadata only"
                    )
        self._call = self._chain.run(event, self._position + 1, self)
        return self._call

    @property
    def in_transaction(self) -> bool:
        """Whether the event is emitted as a part of a transaction."""
        return self._chain.in_transaction

    @property
    def is_unfinished(self) -> bool:
        """Whether the rest of the chain has started, and has not ended."""
        call: Any = self._call
        return call is not None and call.cr_frame is not None

    def abandon(self) -> asyncio.Task[Any] | None:
        """End the rest of the chain: close it, or cancel and return the task that runs it."""
        if (call := self._call) is None or not self.is_unfinished:
            return None
        running = self.task or next((task for task in asyncio.all_tasks() if task.get_coro() is call), None)
        if running is None:
            call.close()  # never awaited: nothing of it has run
        else:
            running.cancel()
        return running

    async def end(self) -> None:
        """End the rest of the chain and wait for its end, because a handler that goes on would run during its retry."""
        if (running := self.abandon()) is not None:
            await asyncio.wait([running], timeout=CANCEL_SECONDS)

    def violate(self, what: str) -> MiddlewareError:
        """Return the error for a rule that the middleware broke, and keep it for the end of the chain."""
        error = MiddlewareError(what, middleware=name_of(self._chain.middleware[self._position]), event=self._event)
        if self._chain.violation is None:
            self._chain.violation = error
        return error


def name_of(middleware: Middleware) -> str:
    """Name a middleware by its module and its qualified name."""
    function: Any = middleware
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}".replace("<locals>.", "")
