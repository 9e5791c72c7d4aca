"""The records of histories, by what they are about."""
