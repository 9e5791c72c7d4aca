"""The table: its keys, its index, its shards, and templates to create it."""
