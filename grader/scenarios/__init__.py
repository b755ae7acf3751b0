"""Scenarios drive a submission and write down what they saw."""

from grader.scenarios import (
    cold_endpoints,
    contract,
    economy,
    slow_database,
    slow_upstreams,
    tickets_and_reports,
)

SCENARIOS = (
    contract.SCENARIO,
    economy.SCENARIO,
    slow_database.SCENARIO,
    slow_upstreams.SCENARIO,
    cold_endpoints.SCENARIO,
    tickets_and_reports.SCENARIO,
)
"""Every scenario, in the order in which they are driven."""
