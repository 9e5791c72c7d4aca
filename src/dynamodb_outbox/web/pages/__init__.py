"""The pages, which change nothing."""
