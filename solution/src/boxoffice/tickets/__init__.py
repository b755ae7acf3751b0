"""Signed tickets of confirmed orders."""
