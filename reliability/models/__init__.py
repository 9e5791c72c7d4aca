"""Models of protocols, all states of which are explored: `python -m reliability.models windows`."""
