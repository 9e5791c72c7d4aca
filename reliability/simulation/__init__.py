"""Production code on virtual time, over a simulated DynamoDB: one seed makes one run, to the letter."""
