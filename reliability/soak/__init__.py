"""The soak: real processes on DynamoDB Local among faults of all kinds, for minutes or hours."""
