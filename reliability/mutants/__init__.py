"""Mutants: the library, broken in one place, and the test that has to see it. See `catalogue` for the list."""
