"""Typed events: payloads that are instances of registered classes.

An emit turns an instance into the stored payload (`stored_form.py`); a handler of the class gets an instance again.
"""
