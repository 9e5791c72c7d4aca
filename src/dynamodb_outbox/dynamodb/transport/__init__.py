"""Calls to DynamoDB: the client, the retries, and the meaning of responses and errors."""
