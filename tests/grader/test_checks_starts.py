"""The checks of starts into trouble and of the sessions at the end."""

from __future__ import annotations

from typing import Any

import pytest
from shop_records import failures, lasting, outcome_of, read, with_exchanges, with_facts

from devstack.artifacts import Artifact, Outcome
from grader.checks import test_shutdown, test_starts
from grader.model import Verdict


@pytest.fixture
def starts() -> Artifact:
    return Artifact(
        scenario="starts",
        facts={
            "without-upstreams-ready": True, "without-upstreams-ready-after-s": 1.7,
            "without-database-restarts": 0, "without-database-ready": True, "without-database-ready-after-s": 0.4,
        },
        exchanges={"reads": (read("reads", "/events"), read("reads", "/events/1"))},
    )  # fmt: skip


# -- upstreams ----------------------------------------------------------------------------------------------


def test_starting_without_upstreams_passes(starts: Artifact) -> None:
    result = outcome_of(test_starts.test_startup_without_upstreams, starts)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_a_start_that_ends_or_never_comes_to_an_end_fails(starts: Artifact) -> None:
    dead = with_facts(starts, without_upstreams_ready=False, without_upstreams_died=True)
    dead = dead.model_copy(update={"exchanges": {}, "texts": {"without-upstreams": "ended with status 3"}})
    result = outcome_of(test_starts.test_startup_without_upstreams, dead)
    assert failures(result) == {"ready while every upstream refuses connections"}


def test_being_ready_too_late_fails(starts: Artifact) -> None:
    late = with_facts(starts, without_upstreams_ready_after_s=36.5)
    assert failures(outcome_of(test_starts.test_startup_without_upstreams, late)) == {"until ready"}


@pytest.mark.parametrize(("status", "elapsed_s"), [(503, 0.1), (None, 5.0), (200, 4.0)])
def test_pages_that_need_an_upstream_fail(starts: Artifact, status: int | None, elapsed_s: float) -> None:
    reads = [read("reads", "/events"), lasting(read("reads", "/events/1", status=status), elapsed_s)]
    result = outcome_of(test_starts.test_startup_without_upstreams, with_exchanges(starts, reads=reads))
    assert failures(result) == {"event reads that are answered then"}


# -- database -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("restarts", "manner"), [(0, "it waited"), (1, "it left")])
def test_waiting_and_leaving_are_both_right(starts: Artifact, restarts: int, manner: str) -> None:
    found = with_facts(starts, without_database_restarts=restarts)
    result = outcome_of(test_starts.test_startup_without_database, found)
    assert result.verdict is Verdict.PASSED, failures(result)
    assert result.judgement is not None
    assert manner in result.judgement.summary


@pytest.mark.parametrize("ready", [False, None])
def test_staying_without_serving_is_not(starts: Artifact, ready: Any) -> None:
    useless = with_facts(starts, without_database_ready=ready)
    assert outcome_of(test_starts.test_startup_without_database, useless).verdict is Verdict.FAILED


def test_a_service_that_could_not_even_be_started_again_fails(starts: Artifact) -> None:
    facts = {name: starts.facts[name] for name in ("without-upstreams-ready", "without-database-restarts")}
    nothing = starts.model_copy(update={"facts": facts})
    assert outcome_of(test_starts.test_startup_without_database, nothing).verdict is Verdict.FAILED


# -- sessions -----------------------------------------------------------------------------------------------


def ended(held: int, abandoned: int, *, before: int = 3) -> Artifact:
    facts = {"sessions-at-signal": held, "abandoned-before": before, "abandoned-after": before + abandoned}
    return Artifact(scenario="shutdown", facts={**facts})


@pytest.mark.parametrize(("held", "abandoned"), [(18, 0), (5, 2), (2, 1), (1, 0), (0, 0)])
def test_sessions_that_were_closed_pass(held: int, abandoned: int) -> None:
    result = outcome_of(test_shutdown.test_sessions_closed, ended(held, abandoned))
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(("held", "abandoned"), [(18, 18), (5, 3), (2, 2), (1, 1), (0, 1)])
def test_sessions_that_were_abandoned_fail(held: int, abandoned: int) -> None:
    assert outcome_of(test_shutdown.test_sessions_closed, ended(held, abandoned)).verdict is Verdict.FAILED


def test_a_service_that_died_before_its_end_fails() -> None:
    dead = Artifact(scenario="shutdown", outcome=Outcome(kind="cut-short", reason="it died"))
    assert outcome_of(test_shutdown.test_sessions_closed, dead).verdict is Verdict.FAILED
