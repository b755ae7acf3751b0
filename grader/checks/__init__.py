"""Checks judge the record of a run. Each is a pytest test."""
