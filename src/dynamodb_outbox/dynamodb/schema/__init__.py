"""The table: its keys, its index, its shards, and the templates that create it."""
