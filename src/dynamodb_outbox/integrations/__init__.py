"""Integrations with other libraries. Each module needs its library; none is imported by `import dynamodb_outbox`."""
