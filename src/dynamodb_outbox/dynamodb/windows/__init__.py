"""Windows: events that are claimed on emit stay outside of the index, and are found by their ids after a crash."""
