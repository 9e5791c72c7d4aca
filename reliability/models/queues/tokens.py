"""Tokens, requests and epochs. They come back when nothing has them any more, which keeps the states few."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.queues.state import NOBODY, State, Write


def tokens_in_use(state: State) -> set[int]:
    """Collect the tokens that somebody has."""
    used = {NOBODY, state.operator.token}
    if state.queue is not None:
        used.add(state.queue.token)
    for worker in state.workers:
        used.update((worker.token, worker.following))
    for write in _writes(state):
        used.update((write.token, write.following))
    return used


def free_token(state: State) -> int:
    """Return a token that nobody has."""
    return _free(tokens_in_use(state))


def free_request(state: State) -> int:
    """Return a ClientRequestToken that no transaction has."""
    return _free({0, *state.committed, *(write.request for write in _writes(state))})


def free_epoch(state: State) -> int:
    """Return an epoch that no page has, or will have."""
    used = {0, *(page.epoch for page in state.pages), *(write.epoch for write in _writes(state))}
    if state.queue is not None:
        used.add(state.queue.epoch)
    return _free(used)


def forget(state: State) -> State:
    """Drop the leases and requests that nothing refers to any more."""
    if state.expired:
        expired = state.expired & tokens_in_use(state)
        if expired != state.expired:
            state = state._replace(expired=expired)
    if state.committed:
        committed = state.committed.intersection(write.request for write in _writes(state))
        if committed != state.committed:
            state = state._replace(committed=committed)
    return state


def _writes(state: State) -> Iterator[Write]:
    yield from state.late
    for emitter in state.emitters:
        if emitter.write is not None:
            yield emitter.write


def _free(used: set[int]) -> int:
    number = 1
    while number in used:
        number += 1
    return number
