"""The proof of what is guaranteed: histories of what happened, a checker of them, and worlds full of faults."""
