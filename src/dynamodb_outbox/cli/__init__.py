"""The command line `dynamodb-outbox`, in the extra `cli`. The library itself imports nothing of it."""
