"""The doctor: gathers evidence about an outbox, and names the most likely cause of a fault and its repair."""
