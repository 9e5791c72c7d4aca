"""Strict order per key: the queue of a key, how events enter it, and how they leave it."""
