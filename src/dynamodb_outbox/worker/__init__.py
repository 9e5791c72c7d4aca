"""The worker: polling, recovery, dispatch and settling. It knows the port, and no storage."""
