"""A world: the processes of a scenario on one table, until all faults and all events have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from random import Random
from typing import Final

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.windows.item import WINDOW
from reliability.checker import check
from reliability.history import CallsCounted, FaultBegan, FaultEnded, ItemDeleted, Record
from reliability.items import final_state, is_event, is_queue, is_window
from reliability.simulation.audit import audited
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from reliability.simulation.faults import Faults, Kind
from reliability.simulation.handlers import BUSINESS_TABLE
from reliability.simulation.log import TABLE, Log, index_key_of
from reliability.simulation.loop import Timeline
from reliability.simulation.making import makers_of
from reliability.simulation.network import Network
from reliability.simulation.operator import RESUMES, Operator
from reliability.simulation.process import Process
from reliability.simulation.result import Result, limits_of, longest_end, starved, unforeseen, unseen
from reliability.simulation.scenario import JUMP_SECONDS, Action, Emission, Place, Scenario

EPOCH: Final = 1_790_000_000.0
"""When a run begins (epoch seconds)."""
POLL_SECONDS: Final = 0.5
"""Seconds between checks whether all events have ended."""
STOP_SECONDS: Final = 120.0
"""How long the stops at the end may take."""
UNBLOCK_SECONDS: Final = 5.0
"""How often an operator looks for blocked keys at the end."""
WEATHER: Final = "all faults"


class World:
    """A run of a scenario, or of the calls between `open` and `close`. It is used once."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.random = random
        self.timeline = Timeline(random)
        self.log = Log(now=self.now)
        self.unforeseen: list[BaseException] = []
        self.faults = Faults(scenario.weather, random, now=lambda: self.timeline.now)
        self.backend = Backend(
            clock=self.now,
            gate=self.faults,
            lag=self.faults.lag,
            replicas=scenario.replicas,
            choose_replica=lambda: random.randrange(scenario.replicas),
            on_written=self.log.written,
        )
        self.backend.deletes_missing = Random(f"{scenario.seed} deletes").random() < 0.5
        self.network = Network(self.timeline, self.backend, self.faults, write=self.write, now=self.now)
        self._places = {place.name: place for place in scenario.places}
        self._lives: Counter[str] = Counter()
        self._processes: dict[str, Process] = {}
        self._all: list[Process] = []
        self._emitted = 0
        self._closing = False
        self.is_deployed = False
        """Whether every process has the handlers of every type."""
        self._faults_ended_at = 0.0

    def now(self) -> float:
        """Return the true time (epoch seconds)."""
        return EPOCH + self.timeline.now

    def write(self, record: Record) -> None:
        """Take a record of the history."""
        self.log.write(record)

    def run(self) -> Result:
        """Run the scenario, and check its history."""
        self.open()
        self._schedule()
        self.pass_until(self.scenario.seconds)
        return self.close()

    # The beginning

    def open(self) -> None:
        """Create the tables, and start the processes."""
        self._create_tables()
        self.write(FaultBegan(at=self.now(), name=WEATHER, kind="weather"))
        for place in self.scenario.places:
            self.timeline.call_at(place.starts_at, partial(self._start, place))

    def _create_tables(self) -> None:
        client = direct_client(self.backend)
        options = dict(self.scenario.places[0].options)
        outbox = DynamoDBOutbox(client, table_name=TABLE, **options)
        loop = self.timeline.new_loop()
        created = loop.create_task(outbox.create_table(projection=self.scenario.projection))
        self.timeline.run_until(created.done)
        created.result()
        self.backend.create_table(BUSINESS_TABLE)

    def _schedule(self) -> None:
        for emission in self.scenario.emissions:
            self.timeline.call_at(emission.at, partial(self.emit, emission))
        for action in self.scenario.actions:
            self.timeline.call_at(action.at, partial(self.act, action))

    def _start(self, place: Place) -> None:
        """Start a process at a place, unless one runs there."""
        before = self._processes.get(place.name)
        if self._closing or (before is not None and not (before.is_dead or before.has_ended)):
            return
        self._lives[place.name] += 1
        process = Process(self, place, life=self._lives[place.name])
        original = self._processes.get(self.scenario.places[0].name)
        if place.is_clone and original is not None and self._lives[place.name] == 1:
            process.loop.identity = original.loop.identity.clone()
        self._processes[place.name] = process
        self._all.append(process)
        if place.clock_offset:
            self.faults.counts[Kind.CLOCK_SKEW] += 1
        process.start(most_offset=self.scenario.offset_of(place))

    def emit(self, emission: Emission) -> None:
        """Emit events in the process of a place, or in the next process if no process runs there."""
        process = self._processes.get(emission.place)
        if process is None or process.is_dead or process.is_leaving:
            self.timeline.call_later(1.0, partial(self.emit, emission))
            return
        self._emitted += len(emission.types)
        makers = makers_of(emission, self._emitted, self.scenario, self.random, now=self.now)
        process.emit(emission, makers)

    # Faults

    def has_died(self, process: Process) -> None:
        """Start the successor of a killed process."""
        self.faults.counts[Kind.KILL] += 1
        self.timeline.call_later(self.random.uniform(0, 5), partial(self._start, self._places[process.place]))

    def act(self, action: Action) -> None:
        """Apply an action to the process at a place, or to an event."""
        process = self._processes.get(action.place)
        if process is None or process.is_dead or process.is_leaving:
            return
        if action.kind is not Kind.KILL:
            self.faults.counts[action.kind] += 1
        match action.kind:
            case Kind.KILL:
                # The action comes between any two of the next awaits.
                process.loop.doom(1 + int(action.amount * 200), process.kill)
            case Kind.SUSPEND:
                process.suspend(action.amount * 3 * self.scenario.lease)
            case Kind.CLOCK_JUMP:
                process.clock_offset += (2 * action.amount - 1) * JUMP_SECONDS
            case Kind.STOP:
                process.stop(self.random.choice([None, 0.0, 1.0]))
                self._start_again(process)
            case Kind.CANCEL:
                process.loop.doom(1 + int(action.amount * 20), process.cancel)
                self._start_again(process)
            case Kind.DELETE:
                self._delete()
            case _:
                process.operator.act(action, self._keys(), self.random, now=self.now())

    def _start_again(self, process: Process) -> None:
        """Start the next process at a place after its predecessor has ended."""
        if process.has_ended or process.is_dead:
            self._start(self._places[process.place])
        else:
            self.timeline.call_later(POLL_SECONDS, partial(self._start_again, process))

    def _keys(self) -> list[str]:
        return [key for key, item in self.backend.tables[TABLE].items.items() if is_event(item)]

    def _delete(self) -> None:
        table, keys = self.backend.tables[TABLE], self._keys()
        if keys:
            key = self.random.choice(keys)
            self.write(ItemDeleted(at=self.now(), event_id=key))
            change = table.change(key, None)
            table.apply(change, now=self.timeline.now)
            self.log.written(change, "")

    # The end

    def pass_until(self, until: float) -> None:
        """Let time pass until a second of the run."""
        over: list[bool] = []
        self.timeline.call_at(until, lambda: over.append(True))
        self.timeline.run_until(lambda: bool(over))

    def close(self) -> Result:
        """End all faults, wait until all events have ended, stop, and check the history."""
        self._end_faults()
        is_over = self._wait_for_the_ends()
        if is_over:
            self._stop_all()
        return self._result(is_over=is_over)

    def _end_faults(self) -> None:
        self.faults.end()
        self._faults_ended_at = self.timeline.now
        for index in self.backend.tables[TABLE].indexes.values():
            index.catch_up()
        self.unforeseen += audited(self.backend, self.timeline, self.scenario, now=self.now)
        self.is_deployed = True
        for place in self.scenario.places:
            self._start(place)
        for process in self._processes.values():
            process.deploy()
            process.clock_offset = 0.0
            process.loop.doom(0, lambda: None)
        self.write(FaultEnded(at=self.now(), name=WEATHER, kind="weather"))
        for seconds in RESUMES if self.scenario.is_operated else ():
            self.timeline.call_later(seconds, partial(self._operate, Operator.resume_all))
        if self.scenario.unblocks:
            self.timeline.call_later(UNBLOCK_SECONDS, self._unblock)

    def _operate(self, act: Callable[[Operator], None]) -> None:
        """Have an operator act, if a process runs."""
        alive = [each for each in self._processes.values() if not (each.is_dead or each.has_ended or each.is_leaving)]
        if alive:
            act(alive[0].operator)

    def _unblock(self) -> None:
        """Have the keys unblocked that dead letters block, again and again."""
        if not self._closing:
            self._operate(lambda operator: operator.unblock(self.random))
            self.timeline.call_later(UNBLOCK_SECONDS, self._unblock)

    def _unfinished(self) -> list[str]:
        """List the events and queues that have not ended, and the windows that a recovery has to close."""
        unfinished = ("PENDING", "PROCESSING", "HELD")
        of_queues = (*unfinished, "FAILED") if self.scenario.unblocks else unfinished
        events: list[str] = []
        queues: list[str] = []
        windows: list[str] = []
        # Most items are events that have ended: they are passed over first, because this is asked again and again.
        for item in self.backend.tables[TABLE].items.values():
            status = item["status"]["S"] if "status" in item else None
            if status in unfinished and is_event(item):
                events.append(item["id"]["S"])
            elif status in of_queues and is_queue(item):
                queues.append(item["id"]["S"])
            elif status == WINDOW and is_window(item):
                windows.append(item["id"]["S"])
        alive = {process.name for process in self._processes.values() if not (process.is_dead or process.has_ended)}
        if self.scenario.waits_for_windows:
            alive.clear()
        return [*events, *queues, *(each for each in windows if self.log.holders[each] not in alive)]

    def _wait_for_the_ends(self) -> bool:
        """Wait until all events and emits have ended; return whether the events ended in time."""
        limit = self.timeline.now + longest_end(self.scenario)
        while (unfinished := self._unfinished()) or any(each.is_emitting for each in self._all):
            if self.timeline.now > limit:
                return not unfinished
            self.pass_until(self.timeline.now + POLL_SECONDS)
        return True

    def _stop_all(self) -> None:
        self._closing = True
        limit = self.timeline.now + STOP_SECONDS
        alive = [process for process in self._all if not process.is_dead]
        for process in alive:
            process.stop(None)
        while not all(process.has_ended or process.is_dead for process in alive) and self.timeline.now < limit:
            self.pass_until(self.timeline.now + POLL_SECONDS)

    def _result(self, *, is_over: bool) -> Result:
        for (worker, operation), calls in sorted(self.network.calls.items()):
            self.write(CallsCounted(at=self.now(), operation=operation, calls=calls, worker=worker))
        table = self.backend.tables[TABLE]
        left = [process.name for process in self._all if not (process.has_ended or process.is_dead)]
        state = final_state(table.items.values(), at=self.now(), index_key=index_key_of(table))
        final = replace(state, left=tuple(left) if is_over else ())
        history = sorted(self.log.history, key=attrgetter("at"))
        since = self.timeline.now - self._faults_ended_at
        violations = [] if is_over else [starved(event_id, since=since) for event_id in self._unfinished()]
        violations += [unforeseen(error) for error in self.unforeseen]
        violations += [unseen(context) for context in self.timeline.unseen]
        violations += check(history, final, limits=limits_of(self.scenario))
        return Result(
            seed=self.scenario.seed,
            violations=tuple(violations),
            history=tuple(history),
            faults=dict(self.faults.counts),
            seconds=self.timeline.now,
            events=len(final.events),
            calls=sum(self.network.calls.values()),
        )
