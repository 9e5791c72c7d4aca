"""Gates: limits of throughput, and faults, that may refuse a write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reliability.simulation.responses import Refusal
from reliability.simulation.table import Change


class Gate(Protocol):
    """Admits or refuses each write, in the order of arrival, and each write of a transaction separately.

    The change contains the costs of the write: units of the table in the partition of its key, and units of each index
    in the partitions of its rows. This includes writes whose condition is false, because DynamoDB bills them.
    """

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Admit a write, or return its refusal. `factor` multiplies the units of the table, for transactions."""
        ...


class Open:
    """Lets everything pass."""

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Let a write pass."""
        return None


class Gates:
    """Several gates in a row."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = list(gates)

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Admit a write if all gates admit it."""
        for gate in self._gates:
            refusal = gate.admit(change, table_name=table_name, now=now, factor=factor)
            if refusal is not None:
                return refusal
        return None
