"""One attempt at one event: its handlers, its lease, and its outcome."""
