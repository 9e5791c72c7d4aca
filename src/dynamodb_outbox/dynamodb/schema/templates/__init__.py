"""Infrastructure templates, rendered from the schema of the table."""
