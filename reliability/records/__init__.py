"""The records of histories."""
