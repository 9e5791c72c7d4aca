"""Reads what a person needs in order to find a fault: the table, the connection, the permissions, the workers."""
