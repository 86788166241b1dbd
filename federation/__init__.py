"""Adapter updates between peers: identity, update format, checks, aggregation, exchange. No screen, no database."""
