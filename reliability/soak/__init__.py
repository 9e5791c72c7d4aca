"""The soak: real processes on DynamoDB Local, all kinds of faults at once, for as long as one likes."""
