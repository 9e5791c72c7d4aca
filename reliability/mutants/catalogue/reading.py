"""Mutants of what operators read, and of what is stored for them."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_PAGES: Final = "tests/contract/test_reading.py"
_READING: Final = "tests/dynamodb/test_reading.py"
_LIMIT: Final = "tests/reliability/test_items_at_the_limit.py"

READING: Final = (
    Mutant(
        row=100,
        name="a page skips events of other shards that are due at the same time",
        file="dynamodb/reading/merged_rows.py",
        text='sign=sign if number < cursor.partition else f"{sign}="',
        replacement="sign=sign",
        test=f"{_PAGES}::test_pages_have_every_event_once_though_all_are_due_at_the_same_time[simulated-batch-sharded-7]",
    ),
    Mutant(
        row=100,
        name="a page shows events that have gone on since the index was read",
        file="dynamodb/reading/listing.py",
        text=" or event.state is not self.state or ",
        replacement=" or ",
        test=f"{_READING}::test_rows_that_are_stale_are_left_out",
    ),
    Mutant(
        row=101,
        name="events of windows are not listed",
        file="dynamodb/reading/listing.py",
        text="if STATUS_OF[state] is EventStatus.PROCESSING and not cursor.sort_key:",
        replacement="if False:",
        test=f"{_READING}::test_rows_follow_the_events_of_windows",
    ),
    Mutant(
        row=101,
        name="events of windows are not counted",
        file="dynamodb/reading/sampling.py",
        text="        await self._count_windows(windows, counted, now=now, limit=count_limit, units=units)\n",
        replacement="",
        test=f"{_READING}::test_sample_counts_windows_up_to_a_part_of_the_limit",
    ),
    Mutant(
        row=102,
        name="an item without room for the name of a worker is not claimed",
        file="dynamodb/delivering/claim.py",
        text="replace(writes[index], transition=CLAIM_UNNAMED) for index in too_large",
        replacement="writes[index] for index in too_large",
        test=f"{_LIMIT}::test_item_without_room_for_the_name_of_the_worker_is_claimed_without_it[batch]",
    ),
    Mutant(
        row=102,
        name="the text of an error goes before its handler",
        file="dynamodb/conditional/room.py",
        text='if each.partition(" ")[0] not in DETAILS)',
        replacement="if each)",
        test=f"{_LIMIT}::test_class_and_handler_of_an_error_go_before_its_text[batch]",
    ),
    Mutant(
        row=103,
        name="a fork claims in the name of its parent",
        file="worker_identity.py",
        text="if known is None or known[0] != pid:",
        replacement="if known is None:",
        test="tests/unit/test_worker_identity.py::test_a_fork_has_another_identity",
    ),
)
