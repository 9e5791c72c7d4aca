"""Records the activity of a worker as a history, with one `Recorder` for each life of a worker.

The recorder wraps the port, where tokens and outcomes pass, and observes the handlers:
`bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)`. Abandoned handlers are reported to `on_error`
only.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from dynamodb_outbox.errors import HandlerStuckError, OutboxError
from dynamodb_outbox.observers import (
    ClaimRefused,
    HandlerCancelled,
    HandlerFailed,
    HandlerStarted,
    HandlerSucceeded,
    Observation,
)
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.port import Outbox
from reliability import history
from reliability.history import ErrorReported, HandlerEnded, Noted, Result, WorkerStarted, WorkerStopped
from reliability.journal import Write
from reliability.port import RecordedOutbox
from reliability.resources import connections_in_use, tasks_left


class Recorder:
    """Records the activity of one worker; `now` returns the true time (epoch seconds)."""

    def __init__(self, write: Write, *, worker: str, now: Callable[[], float]) -> None:
        self.write = write
        self.worker = worker
        self.now = now
        self._tokens: dict[tuple[str, int], str] = {}
        self._running: defaultdict[tuple[str, str, int], deque[str]] = defaultdict(deque)

    def around(self, outbox: Outbox) -> RecordedOutbox:
        """Wrap an outbox to record its calls, and observe it."""
        outbox.observers.add(self)
        return RecordedOutbox(outbox, self)

    def started(self, outbox: Outbox, *, clock_offset: float = 0.0) -> None:
        """Record the start of the worker."""
        options = outbox.options
        self.write(
            WorkerStarted(
                at=self.now(),
                worker=self.worker,
                lease=options.processing_timeout,
                poll_interval=options.max_poll_interval or options.poll_interval,
                max_retries=options.max_retries,
                base_backoff=options.base_backoff,
                clock_offset=clock_offset,
                unhandled_timeout=options.unhandled_timeout,
                skips_failed=options.failed_key == "skip",
            )
        )

    def stopped(self, client: Any = None) -> None:
        """Record the end of the worker's stop, with its remaining tasks and connections."""
        self.write(
            WorkerStopped(at=self.now(), worker=self.worker, tasks=tasks_left(), connections=connections_in_use(client))
        )

    def claimed(self, event_id: str, attempt: int, token: str) -> None:
        """Remember the claim of the next handlers, because observations do not contain it."""
        self._tokens.pop((event_id, attempt), None)  # the latest claim is the last one
        self._tokens[event_id, attempt] = token

    def note(self, what: str, *, event_id: str = "") -> None:
        """Record a note from the code around the worker."""
        self.write(Noted(at=self.now(), worker=self.worker, what=what, event_id=event_id))

    def report(self, error: OutboxError) -> None:
        """Record reports as an `on_error` callback, because abandoned handlers are reported only there."""
        kind = type(error).__name__
        self.write(ErrorReported(at=self.now(), worker=self.worker, kind=kind, text=str(error)[:300]))
        if isinstance(error, HandlerStuckError):
            tokens = [
                (attempt, token) for (event_id, attempt), token in self._tokens.items() if event_id == error.event_id
            ]
            attempt, token = tokens[-1] if tokens else (0, "")
            self._ended(error.event_id, error.handler, attempt, Result.LEFT_BEHIND, token=token)

    def __call__(self, observation: Observation, /) -> None:
        """Record the results of handlers and the refused claims, as an observer."""
        match observation:
            case HandlerStarted(event_id=event_id, handler=handler, attempt=attempt):
                token = self._tokens.get((event_id, attempt), "")
                self._running[event_id, handler, attempt].append(token)
                self.write(
                    history.HandlerStarted(
                        at=self.now(),
                        event_id=event_id,
                        worker=self.worker,
                        token=token,
                        handler=handler,
                        attempt=attempt,
                    )
                )
            case HandlerSucceeded(event_id=event_id, handler=handler, attempt=attempt):
                self._ended(event_id, handler, attempt, Result.SUCCEEDED)
            case HandlerFailed(event_id=event_id, handler=handler, attempt=attempt, error=error):
                self._ended(event_id, handler, attempt, Result.FAILED, error=error)
            case HandlerCancelled(event_id=event_id, handler=handler, attempt=attempt):
                self._ended(event_id, handler, attempt, Result.CANCELLED)
            case ClaimRefused(event_id=event_id):
                self.write(history.ClaimRefused(at=self.now(), event_id=event_id, worker=self.worker))
            case _:
                pass  # the port has seen it

    def _ended(
        self,
        event_id: str,
        handler: str,
        attempt: int,
        result: Result,
        *,
        error: BaseException | None = None,
        token: str | None = None,
    ) -> None:
        if token is None:
            running = self._running[event_id, handler, attempt]
            # If two claims have the same attempt, the handler of the earlier claim ends first.
            token = running.popleft() if running else self._tokens.get((event_id, attempt), "")
            if not running:
                del self._running[event_id, handler, attempt]
        self.write(
            HandlerEnded(
                at=self.now(),
                event_id=event_id,
                worker=self.worker,
                token=token,
                handler=handler,
                attempt=attempt,
                result=result,
                error="" if error is None else f"{type(error).__name__}: {error}"[:200],
                retry_in=error.delay if isinstance(error, RetryLater) else None,
                final=isinstance(error, Reject),
            )
        )
