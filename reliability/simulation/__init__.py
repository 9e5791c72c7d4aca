"""Runs production code on virtual time against a simulated DynamoDB. A seed always gives the same run."""
