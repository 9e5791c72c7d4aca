"""One call to DynamoDB, and what came of it."""
