"""Finding, claiming, settling and recovering events."""
