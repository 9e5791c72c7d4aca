"""Python values to attribute values and back, and what an item may hold."""
