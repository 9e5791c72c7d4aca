"""Mutants of what operators do: repairs and holds."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_REPAIRS: Final = "tests/contract/test_repairs.py"
_HOLDS: Final = "tests/contract/test_holds.py"
_LOST: Final = "tests/reliability/test_lost_responses.py"

OPERATORS: Final = (
    Mutant(
        row=92,
        name="a selector means what failed after its time",
        file="repairing.py",
        text="event.failed_at <= selector.before)",
        replacement="True)",
        test="tests/worker/test_bulk_repairs.py::test_selector_chooses_by_type_error_and_time",
    ),
    Mutant(
        row=93,
        name="a redrive as seen takes any dead letter",
        file="dynamodb/conditional/repair_transitions.py",
        text='condition=f"{REDRIVE.condition} AND gsiSortKey = :seen", batched=False',
        replacement="condition=REDRIVE.condition, batched=False",
        test=f"{_REPAIRS}::test_redrive_with_a_fence_is_refused_once_the_event_has_failed_again[simulated-single]",
    ),
    Mutant(
        row=94,
        name="a discard leaves the token of a former worker",
        file="dynamodb/conditional/repair_transitions.py",
        text='remove=("gsiSortKey", "claimToken", "unhandledSince", *gone)',
        replacement='remove=("gsiSortKey", "unhandledSince", *gone)',
        test=f"{_REPAIRS}::test_late_outcome_of_a_former_worker_does_not_change_a_discarded_event[simulated-single-Completed]",
    ),
    Mutant(
        row=96,
        name="a hold whose response was lost counts as a lost lease",
        file="dynamodb/delivering/settle.py",
        text="if name in (OUTCOME_NAMES[Released], OUTCOME_NAMES[Held]):",
        replacement="if name == OUTCOME_NAMES[Released]:",
        test=f"{_LOST}::test_repairs_and_holds_whose_responses_are_lost_are_known_to_be_applied[plain]",
    ),
    Mutant(
        row=97,
        name="holds that cannot be read are none",
        file="worker/hold_gate.py",
        text="            error = raised\n",
        replacement="            error, self.known = raised, ()\n",
        test="tests/worker/test_holds.py::test_holds_that_cannot_be_read_are_those_that_were_read_before",
    ),
    Mutant(
        row=98,
        name="an event that is held after the end of the hold stays so",
        file="dynamodb/operating/held_events.py",
        text="        self._noted[type] = self._options.clock()\n",
        replacement="        pass\n",
        test=f"{_HOLDS}::test_worker_that_does_not_know_of_a_resume_finds_what_it_held_late[simulated-single]",
    ),
    Mutant(
        row=99,
        name="a hold is stored whatever is stored",
        file="dynamodb/operating/holds_item.py",
        text='ConditionExpression="#hold = :before" if held in before else "attribute_not_exists(#hold)",',
        replacement='ConditionExpression="#hold = :before OR attribute_exists(#hold)" if held in before else '
        '"attribute_not_exists(#hold) OR attribute_exists(#hold)",',
        test=f"{_LOST}::test_late_repeat_of_a_hold_does_not_undo_its_end[plain]",
    ),
)
