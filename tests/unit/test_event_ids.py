"""Ids are random until a window opens, and numbered under a secret seed from then on."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from dynamodb_outbox import Event
from dynamodb_outbox.event_ids import EventIds, IdNumber, event_ids, numbered_id


def test_ids_are_random_until_numbering_starts() -> None:
    ids = EventIds()
    assert (ids.new().number, ids.seed) == (None, None)
    seed = ids.start_numbering()
    assert ids.start_numbering() == seed
    made = [ids.new() for _ in range(3)]
    assert [each.number for each in made] == [IdNumber(seed, number) for number in range(3)]
    assert made == [numbered_id(seed, number) for number in range(3)]
    assert ids.next_number == 3


def test_a_numbered_id_is_a_uuid_of_version_8() -> None:
    for number in range(1000):
        found = UUID(numbered_id(b"s" * 16, number))
        assert (found.version, found.variant) == (8, "specified in RFC 4122")
    assert len({numbered_id(b"s" * 16, number) for number in range(10_000)}) == 10_000
    assert numbered_id(b"a" * 16, 1) != numbered_id(b"b" * 16, 1)


def test_numbers_go_on_under_a_new_seed() -> None:
    ids = EventIds()
    first = ids.start_numbering()
    ids.new()
    second = ids.change_seed()
    assert second != first
    assert ids.new().number == IdNumber(second, 1)


def test_threads_never_get_the_same_id() -> None:
    ids = EventIds()
    ids.start_numbering()

    def make(_: int) -> list[str]:
        made: list[str] = []
        for index in range(500):
            made.append(ids.new())
            if index % 100 == 0:
                ids.change_seed()
        return made

    with ThreadPoolExecutor(8) as threads:
        made = [each for part in threads.map(make, range(8)) for each in part]
    assert len(set(made)) == 4000


def test_an_event_knows_its_number_and_so_do_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = event_ids.start_numbering()
    event = Event("order.placed")
    assert event.id_number == IdNumber(seed, event_ids.next_number - 1)
    assert Event("order.placed", id=event.id).id_number == event.id_number
    assert Event("order.placed", id="order-1").id_number is None
    assert type(event.id) is str
    assert pickle.loads(pickle.dumps(event)).id_number == event.id_number  # noqa: S301


def _number_in_child(connection: Any) -> None:
    before = event_ids.seed
    event_ids.start_numbering()
    connection.send((before, str(Event("order.placed").id)))


def test_the_child_of_a_fork_does_not_use_the_seed_of_its_parent() -> None:
    event_ids.start_numbering()
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    children = [fork.Process(target=_number_in_child, args=(theirs,)) for _ in range(2)]
    for child in children:
        child.start()
    answers = [ours.recv() for _ in children]
    for child in children:
        child.join()
    assert [seed for seed, _ in answers] == [None, None]
    assert len({event_id for _, event_id in answers} | {str(Event("order.placed").id)}) == 3
