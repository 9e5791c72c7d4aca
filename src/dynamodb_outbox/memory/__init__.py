"""An outbox in the memory of one process, for the tests of users."""
