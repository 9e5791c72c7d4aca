"""The transitions of an event as conditional writes, in batches or one by one."""
