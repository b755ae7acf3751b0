"""Scenarios drive a submission and write down what they saw."""
