"""Measures the costs of the library next to a baseline: the same requests, made by bare aiobotocore calls."""
