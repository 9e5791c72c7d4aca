"""Transitions as conditional writes, in batches or one by one."""
