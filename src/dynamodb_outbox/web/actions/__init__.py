"""The actions, which change events. Each is written to the audit log."""
