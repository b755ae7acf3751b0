"""Scenarios drive a submission and write down what they saw."""

from grader.scenarios import (
    cold_endpoints,
    contract,
    database_outage,
    economy,
    load,
    lost_answers,
    shutdown,
    slow_database,
    slow_upstreams,
    tickets_and_reports,
    two_processes,
    upstream_hang,
    upstream_outage,
)

SCENARIOS = (
    contract.SCENARIO,
    economy.SCENARIO,
    slow_database.SCENARIO,
    slow_upstreams.SCENARIO,
    cold_endpoints.SCENARIO,
    tickets_and_reports.SCENARIO,
    two_processes.SCENARIO,
    upstream_hang.SCENARIO,
    lost_answers.SCENARIO,
    database_outage.SCENARIO,
    upstream_outage.SCENARIO,
    shutdown.SCENARIO,
    load.SCENARIO,
)
"""Every scenario, in the order in which they are driven."""
