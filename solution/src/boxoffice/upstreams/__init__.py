"""Clients of the four upstreams."""
