"""Tests the guarantees: records histories among injected faults, and checks them against the invariants."""
