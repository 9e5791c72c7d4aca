"""A service that takes orders, and a worker that ships them: README.md says how to run them."""
