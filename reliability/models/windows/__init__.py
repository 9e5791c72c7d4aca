"""A model of the windows of `dynamodb_outbox.dynamodb.windows`: every order of writes, crashes and lost responses.

A worker stores the events that it claims on emit outside of the index, and keeps a window item with the range of their
numbers. If the worker dies, a recoverer visits every number of the range: it moves a stored event into the index, and
writes a tombstone where no event is, so that none can be stored there later.

The model has two workers at most, few events, and small windows. Its faults are counted in a budget: calls without
an answer, crashes, leases that run out though their holder lives. Within the budget, everything happens in every order.
"""
