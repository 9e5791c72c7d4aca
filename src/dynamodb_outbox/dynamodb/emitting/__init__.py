"""Storing events: alone, in groups, and in transactions."""
