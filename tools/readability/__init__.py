"""Checks that the project stays readable: plain words in its prose, short files and short functions."""
