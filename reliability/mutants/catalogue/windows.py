"""Mutants for windows: events that are claimed on emit, and in no index."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_BUSY: Final = "tests/reliability/test_windows.py::test_no_event_of_a_busy_service_is_lost"

_EMITS: Final = "tests/dynamodb/test_window_emits.py"
_LOST: Final = "tests/dynamodb/test_window_lost_replies.py"
_NEVER_ANSWERED: Final = f"{_LOST}::test_event_whose_write_is_never_answered_is_found_or_cannot_be_stored"
_OUTCOMES: Final = "tests/dynamodb/test_window_outcomes.py"
_OVER_TIME: Final = "tests/worker/test_window_upkeep.py"
_RACES: Final = "tests/dynamodb/test_window_recovery_faults.py"
_RECOVERIES: Final = "tests/dynamodb/test_window_recovery.py"
_TOMBSTONES: Final = "tests/dynamodb/test_window_tombstones.py"

_ACTIVITY: Final = "dynamodb/windows/activity.py"
_FENCE: Final = "dynamodb/windows/fence.py"
_ITEM: Final = "dynamodb/windows/item.py"
_KEEPER: Final = "dynamodb/windows/keeper.py"
_RECOVERY: Final = "dynamodb/delivering/window_recovery.py"
_FORMS: Final = "dynamodb/emitting/forms.py"
_INSERTS: Final = "dynamodb/emitting/inserts.py"
_PUTS: Final = "dynamodb/emitting/single_puts.py"
_SETTLE: Final = "dynamodb/delivering/settle.py"
_TRANSACTION: Final = "dynamodb/emitting/commit_transaction.py"
_TRANSITIONS: Final = "dynamodb/conditional/transitions.py"
_UNANSWERED: Final = "dynamodb/windows/unanswered.py"
_UPKEEP: Final = "dynamodb/windows/upkeep.py"
_WINDOW: Final = "dynamodb/windows/window.py"

WINDOWS: Final = (
    # The window of a worker
    Mutant(
        row=89,
        name="numbers are used before the end of the window is stored",
        file=_UPKEEP,
        text="        window.start, end = self._extension\n",
        replacement="        window.start, end = self._extension\n        window.end = end\n",
        test=f"{_BUSY}[5]",
    ),
    Mutant(
        row=89,
        name="a number below the start of the window is used",
        file=_WINDOW,
        text="and self.start <= number.number < self.end",
        replacement="and number.number < self.end",
        test="tests/unit/test_window.py::test_window_takes_numbers_within_its_range_once",
    ),
    Mutant(
        row=89,
        name="the start of the window passes what runs",
        file=_ACTIVITY,
        text="max(window.start, window.lowest(default=following))",
        replacement="max(window.start, following)",
        test=f"{_BUSY}[0]",
    ),
    Mutant(
        row=89,
        name="the start of the window passes an outcome without an answer",
        file=_WINDOW,
        text="        return min(self._open, default=default)\n",
        replacement=(
            "        held = [each.number for each in self.in_state(EntryState.SENDING, EntryState.HELD)]\n"
            "        return min(held, default=default)\n"
        ),
        test="tests/unit/test_window.py::test_window_covers_its_open_events_whatever_is_known_of_them",
    ),
    Mutant(
        row=89,
        name="an outcome without an answer is forgotten",
        file=_KEEPER,
        text="        entry.state = EntryState.ABANDONED\n",
        replacement="        entry.window.leave(entry)\n",
        test=f"{_OUTCOMES}::test_event_whose_outcome_cannot_be_written_is_moved_into_the_index[batch]",
    ),
    Mutant(
        row=89,
        name="an insert without an answer is forgotten",
        file=_KEEPER,
        text="        entry.state = EntryState.UNSURE\n",
        replacement="        entry.window.leave(entry)\n",
        test=f"{_NEVER_ANSWERED}[batch-True-alone]",
    ),
    Mutant(
        row=89,
        name="a window is deleted although some of its events are open",
        file=_UNANSWERED,
        text="                if window.is_closed and not window.open_count:\n",
        replacement="                if window.is_closed:\n",
        test="tests/worker/test_window_rare_cases.py::"
        "test_what_a_cancelled_worker_left_in_its_window_is_recovered_by_the_next_worker_of_the_process",
    ),
    Mutant(
        row=89,
        name="a late renewal moves the window back",
        file=_ITEM,
        text='f"claimToken = :token AND {condition} AND #status = :window"',
        replacement='f"claimToken = :token AND ({condition} OR #version <> :version0) AND #status = :window"',
        test="tests/unit/test_window_versions.py::test_a_renewal_may_follow_one_that_was_not_answered",
    ),
    # Emits
    Mutant(
        row=89,
        name="an event of a window is stored without a condition",
        file=_FORMS,
        text="    return _IF_NEW_OR_VOID if entry is None else _IF_NEW\n",
        replacement="    return _IF_NEW_OR_VOID if entry is None else {}\n",
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="an event of a window replaces a tombstone",
        file=_FORMS,
        text="    return _IF_NEW_OR_VOID if entry is None else _IF_NEW\n",
        replacement="    return _IF_NEW_OR_VOID\n",
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="a tombstone counts as a duplicate",
        file=_PUTS,
        text="        if refused is not None and put.entry is not None and is_tombstone(refused.item):\n",
        replacement="        if False:\n",
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="an event whose id has a tombstone counts as stored",
        file=_PUTS,
        text="            result.refused_by_tombstone(put)\n            if put.is_done:\n                return\n",
        replacement="            result.taken_over(put)\n            return\n",
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="an event in the index is refused by a tombstone",
        file=_FORMS,
        text='"ConditionExpression": "attribute_not_exists(id) OR #status = :void",\n',
        replacement='"ConditionExpression": "attribute_not_exists(id) OR (#status = :void AND #status <> :void)",\n',
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="an INSERT that is refused counts as stored",
        file=_INSERTS,
        text="            alone.append(put)\n",
        replacement="            if kind is not ErrorKind.REFUSED:\n                alone.append(put)\n",
        test=f"{_TOMBSTONES}::test_event_is_stored_in_the_index_over_a_tombstone",
    ),
    Mutant(
        row=89,
        name="a transaction without an answer is forgotten by the window",
        file=_TRANSACTION,
        text="                self._leave_window(contents.puts, is_unsure=contents.is_doubtful)\n",
        replacement="                self._leave_window(contents.puts, is_unsure=False)\n",
        test=f"{_NEVER_ANSWERED}[batch-True-in a transaction]",
    ),
    Mutant(
        row=89,
        name="an outcome that could not be written counts as an answer",
        file=_SETTLE,
        text="                    self._keeper.unanswered(claim)\n",
        replacement="                    self._keeper.answered(claim)\n",
        test=f"{_OUTCOMES}::test_event_whose_outcome_cannot_be_written_is_moved_into_the_index[batch]",
    ),
    Mutant(
        row=90,
        name="an event that is stored after the end of its window is acknowledged as it is",
        file=_PUTS,
        text=(
            "        late = {put: put.entry for put in puts "
            "if put.entry is not None and self._forms.is_over(put.entry)}\n"
        ),
        replacement="        late: dict[Put, Entry] = {}\n",
        test=f"{_LOST}::test_event_that_is_stored_after_the_end_of_its_window_is_released[alone]",
    ),
    # A window that is lost
    Mutant(
        row=90,
        name="a window that was taken is renewed",
        file=_ITEM,
        text='f"claimToken = :token AND {condition} AND #status = :window"',
        replacement='f"(claimToken = :token OR claimToken <> :token) AND {condition} AND #status = :window"',
        test=f"{_OVER_TIME}::test_a_window_that_somebody_took_is_lost_and_its_events_come_back_once",
    ),
    Mutant(
        row=90,
        name="a window is used after its lease",
        file=_KEEPER,
        text="        if not window.covers(number) or self._upkeep.is_over(window):\n",
        replacement="        if not window.covers(number):\n",
        test="tests/dynamodb/test_window_emits.py::test_event_that_the_window_does_not_cover_is_stored_in_the_index",
    ),
    Mutant(
        row=90,
        name="the events of a lost window are forgotten",
        file=_UPKEEP,
        text="            entry.state = EntryState.ABANDONED\n",
        replacement="            window.leave(entry)\n",
        test=f"{_OVER_TIME}::test_the_worker_itself_recovers_the_events_of_a_lost_window_before_it_deletes_it",
    ),
    # Recovery
    Mutant(
        row=91,
        name="a recovery writes no tombstones",
        file=_RECOVERY,
        text="        missing = [event_id for event_id in ids if event_id not in items]\n",
        replacement="        missing = [event_id for event_id in ids if event_id not in items and False]\n",
        test=f"{_RECOVERIES}::test_event_that_arrives_after_the_recovery_is_refused[simulated-batch]",
    ),
    Mutant(
        row=91,
        name="a tombstone replaces an event",
        file=_TRANSITIONS,
        text='    condition="attribute_not_exists(id)",\n    creates=True,\n',
        replacement='    condition="attribute_not_exists(completedOn)",\n    batched=False,\n',
        test=f"{_RACES}::test_event_that_is_stored_just_before_its_tombstone_is_recovered",
    ),
    Mutant(
        row=91,
        name="a refused tombstone ends the search for its event",
        file=_RECOVERY,
        text=(
            "        events += [event_id for event_id, result in tombstones.items() if isinstance(result, Refused)]\n"
        ),
        replacement="",
        test=f"{_RACES}::test_event_that_is_stored_just_before_its_tombstone_is_recovered",
    ),
    Mutant(
        row=91,
        name="a recovery resets an event that is not PROCESSING",
        file=_TRANSITIONS,
        text='"status = :PROCESSING AND attribute_not_exists(gsiSortKey) AND window = :window"',
        replacement='"attribute_not_exists(gsiSortKey) AND window = :window"',
        test=f"{_RACES}::test_outcome_that_is_written_just_before_the_event_enters_the_index_stands",
    ),
    Mutant(
        row=91,
        name="a recovery resets an event that is in the index",
        file=_TRANSITIONS,
        text='"status = :PROCESSING AND attribute_not_exists(gsiSortKey) AND window = :window"',
        replacement='"status = :PROCESSING AND window = :window"',
        test="tests/dynamodb/test_window_recovery.py::"
        "test_event_that_is_in_the_index_by_now_is_not_moved_into_it_again",
    ),
    Mutant(
        row=91,
        name="a window is taken whose lease was renewed",
        file=_ITEM,
        text='"#status = :window AND gsiSortKey = :seen"',
        replacement='"#status = :window AND (gsiSortKey = :seen OR gsiSortKey <> :seen)"',
        test=f"{_RACES}::test_window_that_is_renewed_just_before_it_is_taken_is_left_alone",
    ),
    Mutant(
        row=91,
        name="a window is closed before all of its ids are settled",
        file=_RECOVERY,
        text="        for first in range(window.start, window.end, BATCH_GET):\n",
        replacement="        for first in range(window.start, window.end - BATCH_GET, BATCH_GET):\n",
        test=f"{_RECOVERIES}::test_every_id_of_a_window_is_settled_and_the_window_is_closed[simulated-batch]",
    ),
    Mutant(
        row=91,
        name="a window is closed although an event could not be written",
        file=_RECOVERY,
        text="        found.is_complete = found.is_complete and not entered.errors()\n",
        replacement="",
        test=f"{_RACES}::test_event_that_cannot_be_written_keeps_only_its_window_open",
    ),
    Mutant(
        row=91,
        name="a recovered window is deleted",
        file=_RECOVERY,
        text="        closing = close(self._window_id, token=self._token, now=self._clock())\n",
        replacement=(
            '        key = {"id": {"S": self._window_id}}\n'
            '        await self._caller.call("delete_item", within=1, TableName=self._caller.table_name, Key=key)\n'
            "        return True\n"
            "        closing: dict[str, Any] = {}\n"
        ),
        test=f"{_BUSY}[0]",
    ),
)
"""Mutants for the windows of workers, and for their recovery, in the order of the table in docs/reliability.md."""
