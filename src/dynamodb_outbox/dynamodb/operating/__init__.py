"""What an operator does: repairs of single events, and holds."""
