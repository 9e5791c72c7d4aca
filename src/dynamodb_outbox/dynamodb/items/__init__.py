"""Conversion between Python values and attribute values, and the limits of an item."""
