"""One emitter and three workers on one table, one of which is killed: `python -m examples.demo`."""
