"""One sample of an outbox for everybody in the process who wants one: health, metrics, a dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Sample
from dynamodb_outbox.wording import describe

SAMPLE_SECONDS: Final = 15.0
"""The time from one sample to the next, unless an option sets another."""
WANTED_INTERVALS: Final = 5
"""The intervals for which samples are taken after a call of `want`. Probes come every 10 to 30 seconds."""
STALE_INTERVALS: Final = 3
"""The age in intervals from which a sample is not shown any more."""
JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class KeptSample:
    """A sample, and when it was begun (by `time.monotonic`)."""

    sample: Sample
    taken_at: float


class _Attempt:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.sample: Sample | None = None
        self.error: OutboxError | None = None


class Sampler:
    """Keeps the last sample of one outbox.

    While `run` runs, it samples every `interval` seconds, but only if somebody has called `want` lately. `get` returns
    the kept sample, or takes one. All who want a sample at the same time share it.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        interval: float = SAMPLE_SECONDS,
        count_limit: int = 1_000,
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.interval = interval
        self._outbox = outbox
        self._count_limit = count_limit
        self._random = random
        self._kept: KeptSample | None = None
        self._attempt: _Attempt | None = None
        self._wanted_at = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup: asyncio.Event | None = None
        self.holds: tuple[Hold, ...] = ()
        """The holds that `run` read with the last sample. Some may be over by now."""
        self.error: str | None = None
        """Why the last attempt failed; None after a success."""
        self.wanted_since: float | None = None
        """Since when samples have been taken one after the other; None while nobody wants any."""

    # From any thread, without waiting

    def want(self) -> None:
        """Have `run` take samples for the next intervals."""
        self._wanted_at = monotonic()
        loop, wakeup = self._loop, self._wakeup
        if self.wanted_since is None and loop is not None and wakeup is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(wakeup.set)

    @property
    def latest(self) -> Sample | None:
        """The last sample; None before the first one, and once it is older than three intervals."""
        kept = self._kept
        return None if kept is None or self._age(kept) > STALE_INTERVALS * self.interval else kept.sample

    @property
    def stale_for(self) -> float | None:
        """For how many seconds there has been no sample although some were wanted; None if that is normal."""
        since, kept = self.wanted_since, self._kept
        if since is None:
            return None
        seconds = monotonic() - (since if kept is None else max(since, kept.taken_at))
        return seconds if seconds > STALE_INTERVALS * self.interval else None

    # In the event loop of the outbox

    async def get(self, *, max_age: float | None = None) -> Sample:
        """Return the kept sample if it is younger than `max_age` seconds, by default one interval; else take one.

        Raises `StorageError`.
        """
        longest = self.interval if max_age is None else max_age
        while True:
            if (kept := self._kept) is not None and self._age(kept) < longest:
                return kept.sample
            if (attempt := self._attempt) is None:
                return await self._take()
            await attempt.done.wait()
            if attempt.error is not None:
                raise attempt.error
            if attempt.sample is not None:
                return attempt.sample
            # Its caller was cancelled, so that somebody else has to take the sample.

    async def run(self) -> None:
        """Take samples while somebody wants them, until cancelled."""
        self._loop, self._wakeup = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                while not self._is_wanted:
                    await self._wakeup.wait()
                    self._wakeup.clear()
                self.wanted_since = monotonic()
                while self._is_wanted:
                    await self._try_to_take()
                    await anyio.sleep(self.interval * (1 + JITTER * (2 * self._random() - 1)))
                self.wanted_since = None
        finally:
            self._loop = self._wakeup = self.wanted_since = None

    @property
    def _is_wanted(self) -> bool:
        return monotonic() - self._wanted_at <= WANTED_INTERVALS * self.interval

    async def _try_to_take(self) -> None:
        try:
            await self.get(max_age=self.interval / 2)
            self.holds = tuple(await self._outbox.holds())
        except (Exception, asyncio.CancelledError) as error:
            if not absorb_foreign_cancellation(error):
                raise
            self.error = describe(error)

    async def _take(self) -> Sample:
        attempt = self._attempt = _Attempt()
        taken_at = monotonic()
        try:
            sample = attempt.sample = await self._outbox.sample(count_limit=self._count_limit)
        except OutboxError as error:
            attempt.error, self.error = error, describe(error)
            raise
        else:
            self._kept, self.error = KeptSample(sample, taken_at), None
            return sample
        finally:
            self._attempt = None
            attempt.done.set()

    def _age(self, kept: KeptSample) -> float:
        return monotonic() - kept.taken_at
