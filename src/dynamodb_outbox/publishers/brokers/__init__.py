"""The brokers of `FastStreamPublisher`. Each module imports a client, so none is imported before it is used."""
