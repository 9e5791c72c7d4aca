"""The simulation: it finds nothing in the library as it is, the same thing every time, and faults that are put in.

A failure is looked into with `python -m reliability.simulation --seed N`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox.dynamodb.conditional.recover import LISTED
from dynamodb_outbox.dynamodb.conditional.transitions import Transition
from dynamodb_outbox.dynamodb.delivering import claim, recovery, settle
from dynamodb_outbox.dynamodb.items import codec
from dynamodb_outbox.dynamodb.transport import caller
from dynamodb_outbox.worker import claim_on_emit, recover
from reliability.history import Outcome, Settled
from reliability.simulation import making
from reliability.simulation.campaign import Summary, summaries_of
from reliability.simulation.drawing import scenario_of
from reliability.simulation.entropy import undisturbed
from reliability.simulation.faults import Kind
from reliability.simulation.runs import run, run_each, world_of
from reliability.simulation.scenario import Action, Emission, Way
from tests.thorough import often

SEEDS = often(30, thorough=60)
MOST_SEEDS = 300
"""So many are tried at most, until a library that is broken is found out."""

PRINT = "import sys; from reliability.simulation.runs import run; print(*(run(int(n)).text for n in sys.argv[1:]))"


@pytest.mark.timeout(1800)
def test_no_invariant_is_broken() -> None:
    total = Summary()
    for summary in summaries_of(range(SEEDS), processes=2):
        total.join(summary)
    assert not total.failures, "\n\n".join(f"seed {seed}: {text}" for seed, text in sorted(total.failures.items())[:3])
    assert total.runs == SEEDS
    # Every kind of fault was met (a few seeds may miss a rare one), and the runs were no empty ones.
    assert len([kind.value for kind in Kind if not total.faults[kind]]) <= often(2, thorough=0)
    assert total.events > 10 * SEEDS


def test_one_seed_makes_one_history_to_the_letter() -> None:
    seeds = [str(seed) for seed in range(often(2, thorough=4))]
    histories = [
        subprocess.run(
            [sys.executable, "-c", PRINT, *seeds],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert histories[0] == histories[1]
    assert histories[0].count("Written") > 100
    # Also after other seeds, in a process that has done much else.
    assert run(int(seeds[-1])).text in histories[0]


def test_event_of_a_process_that_stood_still_is_waited_for() -> None:
    scenario = replace(scenario_of(0), emissions=(), actions=(), seconds=1.0)
    with undisturbed(), world_of(scenario) as world:
        world.open()
        world.pass_until(1.0)
        world.act(Action(at=1.0, kind=Kind.SUSPEND, place="a", amount=10.0))
        world.emit(Emission(at=1.0, place="a", way=Way.SINGLE, types=("one",), delay=None))
        result = world.close()
    assert result.violations == ()
    assert [record.outcome for record in result.history if isinstance(record, Settled)] == [Outcome.COMPLETE]


# A library that is broken


def letters_found(expected: str, *, first: int = 0) -> set[str]:
    """Run seeds until one of the invariants is broken that are expected to be; the letters of that run.

    `first` is a seed that is known to show it, to save time; others would do as well.
    """
    for result in run_each(range(first, first + MOST_SEEDS)):
        letters = {violation.invariant for violation in result.violations}
        if letters & set(expected):
            return letters
    return set()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("module", "name", "condition", "expected", "first"),
    [
        (settle, "COMPLETE", "status <> :FAILED", "F", 104),
        (claim, "CLAIM", "status = :PENDING OR (status = :PROCESSING AND claimToken = :token)", "RFA", 3163),
        (claim, "CLAIM", "status = :PENDING OR status = :PROCESSING", "F", 0),
    ],
)
def test_condition_that_is_taken_away_is_missed(
    module: Any, name: str, *, condition: str, expected: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Transition = replace(getattr(module, name), condition=condition)
    monkeypatch.setattr(module, name, broken)
    if name == "COMPLETE":
        monkeypatch.setattr(settle, "COMPLETE_WITH_EXPIRY", broken.also_set("expireAt = :expiry"))
    assert letters_found(expected, first=first) & set(expected)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("forms", "first"),
    [("reset", 578), ("failed", 315)],
)
def test_condition_that_is_taken_away_from_a_recovery_is_missed(
    forms: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = getattr(LISTED, forms)
    broken = tuple(replace(form, condition="status = :PROCESSING") for form in unbroken)
    monkeypatch.setattr(recovery, "LISTED", replace(LISTED, **{forms: broken}))
    assert letters_found("F", first=first) & set("F")


def test_put_without_its_condition_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    call = caller.Caller.call

    async def unconditional(self: caller.Caller, operation: str, **params: Any) -> Any:
        if operation == "put_item":
            params = {name: params[name] for name in ("within", "TableName", "Item")}
        return await call(self, operation, **params)

    monkeypatch.setattr(caller.Caller, "call", unconditional)
    assert letters_found("AF") & set("AF")


def test_names_of_handlers_that_find_no_room_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "LARGEST", making.LARGEST + codec.DELIVERY_BYTES - 1_024)
    monkeypatch.setattr(codec, "DELIVERY_BYTES", 1_024)
    assert letters_found("D", first=1233) & set("D")


def test_ignored_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = recover.Recoverer.poll

    async def poll_and_forget(recoverer: recover.Recoverer) -> float:
        async def fail() -> None:
            raise RuntimeError("forgotten")

        asyncio.ensure_future(fail())  # noqa: RUF006 - that nobody keeps it is the point
        return await poll(recoverer)

    monkeypatch.setattr(recover.Recoverer, "poll", poll_and_forget)
    assert any("forgotten" in str(violation) for violation in run(0).violations)


def test_emit_claims_that_nobody_settles_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_on_emit.EmitClaims, "_is_too_late", lambda claims: False)
    assert letters_found("S", first=232) & set("S")
