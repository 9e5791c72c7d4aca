"""Draws the faults of calls and writes from a seed, and counts them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import Final

from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from reliability.simulation.backend import table_missing
from reliability.simulation.responses import CONFLICT, EXCEEDED, INTERNAL, THROTTLED, Refusal, client_error
from reliability.simulation.table import Change


class Kind(StrEnum):
    """Every kind of fault."""

    # One call
    UNSENT = "no connection"
    LOST_REQUEST = "request lost"
    LOST_REPLY = "reply lost"
    SILENCE = "no answer"
    SLOW = "slow answer"
    THROTTLED_CALL = "call throttled"
    ERROR_500 = "error 500, not applied"
    APPLIED_500 = "error 500, applied"
    UNPROCESSED = "all items unprocessed"
    # One write among others
    THROTTLED_WRITE = "write throttled"
    CONFLICT = "transaction conflict"
    INTERNAL = "internal error of a write, not applied"
    APPLIED_INTERNAL = "internal error of a write, applied"
    # For a while
    THROTTLING = "throttling storm"
    INDEX_THROTTLING = "index throttled"
    BLACKOUT = "no network"
    CREDENTIALS = "credentials expired"
    TABLE_MISSING = "table missing"
    INDEX_LAG = "index lag"
    # A process
    KILL = "killed"
    SUSPEND = "suspended"
    CLOCK_JUMP = "clock jumped"
    CLOCK_SKEW = "clock skewed"
    STOP = "stopped and restarted"
    CANCEL = "worker cancelled by its host"
    # An event
    DELETE = "item deleted"
    REDRIVE = "redrive"
    # A handler
    HANDLER_FAILED = "handler failed"
    HANDLER_SLOW = "handler outlived its lease"
    HANDLER_STUBBORN = "handler swallowed its cancellation"
    HANDLER_DEADLY = "handler killed its process"
    # What an operator does
    DISCARD = "events discarded"
    REPLACE = "event replaced"
    HOLD = "type held"
    RESUME = "type resumed"
    SKIP = "blocking events skipped"


OF_CALLS: Final = (
    Kind.UNSENT,
    Kind.LOST_REQUEST,
    Kind.LOST_REPLY,
    Kind.SILENCE,
    Kind.SLOW,
    Kind.THROTTLED_CALL,
    Kind.ERROR_500,
    Kind.APPLIED_500,
    Kind.UNPROCESSED,
)
OF_WRITES: Final = (Kind.THROTTLED_WRITE, Kind.CONFLICT, Kind.INTERNAL, Kind.APPLIED_INTERNAL)
STORMS: Final = (
    Kind.THROTTLING,
    Kind.INDEX_THROTTLING,
    Kind.BLACKOUT,
    Kind.CREDENTIALS,
    Kind.TABLE_MISSING,
    Kind.INDEX_LAG,
)
OF_OPERATORS: Final = (Kind.DISCARD, Kind.REPLACE, Kind.HOLD, Kind.RESUME)
OF_KEYS: Final = (Kind.SKIP,)
"""What an operator does where events have ordering keys."""
ENDPOINT: Final = "https://dynamodb.simulated"
_PARTIAL: Final = frozenset({"batch_write_item", "batch_get_item"})
"""The operations whose answers may leave out items."""
LATEST_BATCH: Final = 4.0
"""Seconds within which a BatchWriteItem arrives; the library waits five seconds for its response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """A lasting fault, for all processes or for one place; `strength` is the share of calls that it affects."""

    kind: Kind
    start: float
    end: float
    strength: float = 1.0
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The chances of faults, per call or per write. Delays and lags are seconds."""

    chances: Mapping[Kind, float] = field(default_factory=dict[Kind, float])
    storms: tuple[Storm, ...] = ()
    latency: float = 0.01
    lag: float = 0.0
    storm_lag: float = 60.0


@dataclass(slots=True)
class Fate:
    """The fate of one call: its delays, and an error in place of the response or of the request."""

    request_delay: float
    reply_delay: float
    before: Exception | None = None
    after: Exception | None = None
    silent: bool = False
    unprocessed: bool = False


class Faults:
    """Draws the fate of calls, and acts as the gate of writes. After `end`, there are no faults."""

    def __init__(self, weather: Weather, random: Random, *, now: Callable[[], float]) -> None:
        self.counts: Counter[Kind] = Counter()
        self._weather = weather
        self._ordered: Counter[tuple[Kind, str]] = Counter()
        self._random = random
        self._now = now
        self._over = False

    def end(self) -> None:
        """Stop all faults."""
        self._over = True

    def order(self, kind: Kind, operation: str = "") -> None:
        """Let a fault happen at the next opportunity; a fault of a call happens at the next call of its operation."""
        self._ordered[kind, operation] += 1

    def brew(self, storm: Storm) -> None:
        """Have one storm more."""
        self._weather = replace(self._weather, storms=(*self._weather.storms, storm))

    def strikes(self, kind: Kind, operation: str = "") -> bool:
        """Draw whether a fault happens now, and count it."""
        ordered = self._ordered[kind, operation] > 0
        if self._over or (not ordered and self._random.random() >= self._weather.chances.get(kind, 0.0)):
            return False
        self._ordered[kind, operation] -= ordered
        self.counts[kind] += 1
        return True

    def _storm(self, kind: Kind, place: str = "") -> Storm | None:
        if self._over:
            return None
        now = self._now()
        for storm in self._weather.storms:
            if storm.kind is kind and storm.start <= now < storm.end and storm.place in ("", place):
                return storm
        return None

    def _storms(self, kind: Kind, place: str = "") -> bool:
        storm = self._storm(kind, place)
        if storm is None or self._random.random() >= storm.strength:
            return False
        self.counts[kind] += 1
        return True

    # Calls

    def fate(self, operation: str, place: str) -> Fate:
        """Draw the fate of a call from a place."""
        delays = (
            self._random.expovariate(1 / self._weather.latency),
            self._random.expovariate(1 / self._weather.latency),
        )
        fate = Fate(*delays)
        if self._over:
            return fate
        if not self._stormy(fate, operation, place):
            for kind in OF_CALLS:
                if (kind is not Kind.UNPROCESSED or operation in _PARTIAL) and self.strikes(kind, operation):
                    self._one(fate, kind, operation)
                    break
        return fate

    def _stormy(self, fate: Fate, operation: str, place: str) -> bool:
        if self._storms(Kind.BLACKOUT, place):
            if self._random.random() < 0.5:
                fate.before = unsent(self._random)
            else:
                fate.after = broken(self._random)
        elif self._storms(Kind.CREDENTIALS, place):
            message = "The security token included in the request is expired"
            fate.before = client_error("ExpiredTokenException", message, operation=operation)
        elif self._storms(Kind.TABLE_MISSING):
            fate.before = table_missing(operation)
        elif self._storms(Kind.THROTTLING):
            fate.before = throttled(operation, self._random)
        return fate.before is not None or fate.after is not None

    def _one(self, fate: Fate, kind: Kind, operation: str) -> None:
        internal = client_error("InternalServerError", "Internal server error", operation=operation)
        match kind:
            case Kind.UNSENT:
                fate.before = unsent(self._random)
            case Kind.LOST_REQUEST:
                fate.before = broken(self._random)
            case Kind.LOST_REPLY:
                fate.after = broken(self._random)
            case Kind.SILENCE:
                fate.silent = True
            case Kind.SLOW:
                self._slow(fate, operation)
            case Kind.THROTTLED_CALL:
                fate.before = throttled(operation, self._random)
            case Kind.ERROR_500:
                fate.before = internal
            case Kind.APPLIED_500:
                fate.after = internal
            case _:
                fate.unprocessed = True

    def _slow(self, fate: Fate, operation: str) -> None:
        if self._random.random() < 0.5:
            fate.reply_delay += self._random.uniform(1, 30)
        elif operation == "batch_write_item":
            # A batch has no condition. If it arrived after its sender had given up and had put the events again, it
            # would reset them. No client can help that; here it arrives while its sender still waits.
            fate.request_delay += self._random.uniform(0, LATEST_BATCH)
        else:
            fate.request_delay += self._random.uniform(1, 30)

    # Writes

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Refuse writes with a fault, as a `Gate`."""
        if self._over:
            return None
        if change.indexes and self._storms(Kind.INDEX_THROTTLING):
            return Refusal(THROTTLED, "Throughput exceeds the limit of the index")
        for kind in OF_WRITES:
            if self.strikes(kind):
                return _refusal(kind, self._random)
        return None

    def lag(self, replica: int) -> float:
        """Draw how long a change takes to reach a replica of an index, as an `IndexLag`."""
        if self._storm(Kind.INDEX_LAG) is not None:
            self.counts[Kind.INDEX_LAG] += 1
            return self._random.uniform(0, self._weather.storm_lag)
        return 0.0 if self._over or not self._weather.lag else self._random.uniform(0, self._weather.lag)


def _refusal(kind: Kind, random: Random) -> Refusal:
    if kind is Kind.THROTTLED_WRITE:
        return Refusal(random.choice([THROTTLED, EXCEEDED]), "The level of configured throughput was exceeded")
    if kind is Kind.CONFLICT:
        return Refusal(CONFLICT, "Transaction is ongoing for the item")
    return Refusal(INTERNAL, "Internal server error", applied=kind is Kind.APPLIED_INTERNAL)


def unsent(random: Random) -> Exception:
    """Make the exception of a call that certainly did not reach the backend."""
    unknown_name = socket.gaierror(-2, "Name or service not known")
    errors: list[Exception] = [
        ConnectTimeoutError(endpoint_url=ENDPOINT),
        EndpointConnectionError(endpoint_url=ENDPOINT, error=unknown_name),
    ]
    return random.choice(errors)


def broken(random: Random) -> Exception:
    """Make one of the exceptions that leave open whether the backend got the request."""
    errors: list[Exception] = [
        ReadTimeoutError(endpoint_url=ENDPOINT),
        ConnectionClosedError(endpoint_url=ENDPOINT),
        EndpointConnectionError(endpoint_url=ENDPOINT, error=ConnectionResetError(104, "reset by peer")),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a corrupt reply"),
    ]
    return random.choice(errors)


def throttled(operation: str, random: Random) -> Exception:
    """Make the exception of a call that was throttled."""
    codes = ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"]
    error: Exception = client_error(random.choice(codes), "Rate exceeded", operation=operation)
    return error
