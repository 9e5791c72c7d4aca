"""An outbox in memory whose calls a test counts, holds, delays, fails and answers; and a handler that records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio

from dynamodb_outbox import Event, Hold, InMemoryOutbox, OutboxError, PartialPublishError
from dynamodb_outbox.adapter import Claim, EmitClaim, Outcome, Recovered, Settled
from dynamodb_outbox.transaction import TransactionWrite

BLAMED: Any = {"error_type": "ValueError", "error_handler": "bill"}
"""The class and the handler of an error, as almost every outcome of a worker has them: it goes in a batch."""

Operation = Literal["publish", "transact", "claim", "settle", "renew", "recover", "retire", "holds"]


class Clock:
    """A time of day (epoch seconds) that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Call:
    """A call of the outbox: its first argument, its options, when it came (the loop's time), and what it returned."""

    argument: Any
    options: dict[str, Any]
    at: float
    result: Any = None


class Gate:
    """Holds calls until the test opens it; `reached` is set once a call waits."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self._opened = anyio.Event()

    def open(self) -> None:
        """Let the calls pass that wait, and all that come later."""
        self._opened.set()

    async def wait(self) -> None:
        """Wait until the test opens the gate."""
        self.reached.set()
        await self._opened.wait()


class ScriptedOutbox(InMemoryOutbox):
    """An `InMemoryOutbox` that records its calls, and in which a test scripts what happens to them.

        outbox = ScriptedOutbox(poll_interval=0.01)
        outbox.fail("claim", DOWN)                       # each claim raises, until outbox.restore("claim")
        outbox.fail("settle", DOWN, nth=2)               # only the second settle from now on
        outbox.fail("publish", LOST, after=True, nth=1)  # the first publish is carried out, and its response lost
        outbox.refuse("renew", DOWN)                     # renewals return the error for each lease
        outbox.answer("recover", Recovered())            # recoveries are not carried out, and return this
        outbox.delay("claim", 0.05)
        gate = outbox.pause("settle")                     # settles wait
        await gate.reached.wait()                        # ... now one of them does
        gate.open()
        assert outbox.count_of("claim") == 3
        assert [len(call.argument) for call in outbox.calls["settle"]] == [1, 2]

    Each of them takes `after=True` (once the call was carried out, before it returns), `nth` (only the n-th of the
    calls from now on) and `when` (only calls for which it returns true). The argument of a call is its first one:
    events, writes, settlements, renewals, or the limit.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: defaultdict[Operation, list[Call]] = defaultdict(list)
        self._steps: dict[Operation, list[_Step]] = {}
        self._next_call = anyio.Event()

    # Scripting

    def script(self, operation: Operation, action: Callable[[], Awaitable[Any]], **which: Any) -> None:
        """Await a function in each call; what it raises, the call raises."""

        async def run(call: Call) -> None:
            await action()

        self._add(operation, run, **which)

    def fail(self, operation: Operation, error: BaseException, **which: Any) -> None:
        """Raise an error in each call."""

        async def fail(call: Call) -> None:
            raise error

        self._add(operation, fail, **which)

    def refuse(self, operation: Literal["settle", "renew"], error: OutboxError, **which: Any) -> None:
        """Return an error for each item of each call, and carry out none."""

        async def refuse(call: Call) -> _Answer:
            return _Answer([error] * len(call.argument))

        self._add(operation, refuse, **which)

    def answer(self, operation: Operation, value: Any, **which: Any) -> None:
        """Return a value instead of carrying out the call."""

        async def answer(call: Call) -> _Answer:
            return _Answer(value)

        self._add(operation, answer, **which)

    def delay(self, operation: Operation, seconds: float, **which: Any) -> None:
        """Sleep in each call."""
        self.script(operation, lambda: anyio.sleep(seconds), **which)

    def pause(self, operation: Operation, **which: Any) -> Gate:
        """Let each call wait until the gate is opened."""
        gate = Gate()
        self.script(operation, gate.wait, **which)
        return gate

    def restore(self, *operations: Operation) -> None:
        """Forget what was scripted for operations: from now on, they are carried out at once."""
        for operation in operations:
            self._steps.pop(operation, None)

    def _add(self, operation: Operation, action: Callable[[Call], Awaitable[Any]], **which: Any) -> None:
        self._steps.setdefault(operation, []).append(_Step(action, **which))

    # What was called, and what is stored

    def count_of(self, *operations: Operation) -> int:
        """Count the calls of operations."""
        return sum(len(self.calls[operation]) for operation in operations)

    async def called(self, operation: Operation, times: int = 1) -> None:
        """Wait until an operation was called."""
        while self.count_of(operation) < times:
            await self._next_call.wait()

    @property
    def claims(self) -> list[Claim]:
        """What all calls of `claim` have returned; claims on emit are not among them."""
        return [claim for call in self.calls["claim"] for claim in call.result or ()]

    @property
    def claimed_on_emit(self) -> list[int]:
        """How many events of each publish were to be stored as claimed."""
        emit_claims = [call.options["emit_claim"] for call in self.calls["publish"]]
        return [0 if emit_claim is None else len(emit_claim.tokens) for emit_claim in emit_claims]

    def stored(self, event_id: str) -> Any:
        """The record of an event: `status`, `retry_count`, `sort_key` (epoch milliseconds), `last_error`, ..."""
        stored = self._table.find(event_id)
        assert stored is not None
        return stored

    @property
    def stored_ids(self) -> set[str]:
        """The ids of all events that are stored."""
        return set(self._table.events)

    # The port

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        async with _claims_of_a_response(emit_claim) as claiming:
            await self._call("publish", super().publish, events, due_at=due_at, emit_claim=claiming)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        emit_claim: EmitClaim | None = None,
        **options: Any,
    ) -> None:
        async with _claims_of_a_response(emit_claim) as claiming:
            await self._call("transact", super().transact, writes, events=events, emit_claim=claiming, **options)

    async def claim(self, limit: int, **options: Any) -> list[Claim]:
        return await self._call("claim", super().claim, limit, **options)

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]], **options: Any) -> Sequence[Settled]:
        return await self._call("settle", super().settle, settlements, **options)

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        return await self._call("renew", super().renew, renewals)

    async def recover(self, **options: Any) -> Recovered:
        return await self._call("recover", super().recover, **options)

    async def retire(self) -> None:
        await self._call("retire", super().retire)

    async def holds(self) -> list[Hold]:
        return await self._call("holds", super().holds)

    async def _call(self, operation: Operation, carry_out: Any, *arguments: Any, **options: Any) -> Any:
        call = Call(arguments[0] if arguments else None, options, anyio.current_time())
        self.calls[operation].append(call)
        self._next_call.set()
        self._next_call = anyio.Event()
        answer = await self._run_steps(operation, call, after=False)
        call.result = await carry_out(*arguments, **options) if answer is None else answer.value
        answer = await self._run_steps(operation, call, after=True)
        return call.result if answer is None else answer.value

    async def _run_steps(self, operation: Operation, call: Call, *, after: bool) -> _Answer | None:
        for step in tuple(self._steps.get(operation, ())):
            if step.applies(call, after=after) and (answer := await step.action(call)) is not None:
                return answer
        return None


def found_an_event(call: Call) -> bool:
    """Choose the claims that return an event, with `when=found_an_event, after=True`."""
    return bool(call.result)


def quick_outbox(**options: Any) -> ScriptedOutbox:
    """An outbox that polls and retries in hundredths of a second."""
    return ScriptedOutbox(**({"poll_interval": 0.01, "base_backoff": 0.01} | options))


@dataclass(slots=True)
class _Step:
    action: Callable[[Call], Awaitable[Any]]
    after: bool = False
    nth: int | None = None
    when: Callable[[Call], bool] = lambda call: True
    seen: int = 0

    def applies(self, call: Call, *, after: bool) -> bool:
        if self.after is not after or not self.when(call):
            return False
        self.seen += 1
        return self.nth in (None, self.seen)


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any


@asynccontextmanager
async def _claims_of_a_response(emit_claim: EmitClaim | None) -> AsyncGenerator[EmitClaim | None]:
    """Hand over claims on emit once the response arrives. The request is sent at once, and outlives its caller."""
    if emit_claim is None:
        yield None
        return
    emit_claim.sending()
    claims: list[Claim] = []
    refused: PartialPublishError | None = None
    try:
        yield replace(emit_claim, claimed=claims.append, sending=lambda: None)
    except PartialPublishError as error:
        refused = error
    for claim in claims:
        emit_claim.claimed(claim)
    if refused is not None:
        raise refused


class Recorder:
    """A handler that records its events, and when each of them came (the loop's time)."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(anyio.current_time())
