from __future__ import annotations

from typing import Any

from grader.load.arithmetic import cost, due_from, habits, requests_csv, seconds_csv, summary
from grader.load.plan import Arrival
from grader.load.result import Outcome

START_S = 1000.0


def outcome(number: int, latency_s: float, **more: Any) -> Outcome:
    due_s = START_S + number
    fields = {"endpoint": "list", "sent_s": due_s, "ended_s": due_s + latency_s, "status": 200, **more}
    return Outcome(number=number, due_s=due_s, **fields)


def test_requests_of_the_warm_up_do_not_count() -> None:
    arrivals = [Arrival(number=number, due_s=number, endpoint="list") for number in range(6)]
    outcomes = [outcome(number, 0.1) for number in range(6)]
    assert [found.number for found in due_from(outcomes, arrivals, 4)] == [4, 5]


def test_latency_counts_from_the_instant_at_which_the_request_was_due() -> None:
    late = outcome(1, 0.4, sent_s=START_S + 1.3)
    assert summary([late], timeout_s=10)["p50_s"] == 0.4


def test_a_failed_request_counts_as_long_as_its_client_would_have_waited() -> None:
    outcomes = [outcome(1, 0.01, failure="status-500"), outcome(2, 0.02), outcome(3, 0.03)]
    figures = summary(outcomes, timeout_s=10)
    assert (figures["p50_s"], figures["p95_s"]) == (0.03, 10)
    assert (figures["offered"], figures["correct"]) == (3, 2)
    assert figures["failed_by_kind"] == {"status-500": 1}


def test_cpu_time_is_shared_out_among_the_right_answers() -> None:
    outcomes = [outcome(1, 0.01, failure="status-500"), outcome(2, 0.02), outcome(3, 0.03)]
    figures = cost(outcomes, cpu_s=3)
    assert figures == {"cpu_s": 3, "cpu_requests": 2, "cpu_per_correct_request_s": 1.5}


def test_endpoints_and_groups_have_their_own_figures() -> None:
    outcomes = [
        outcome(1, 0.1),
        outcome(2, 0.2, endpoint="detail"),
        outcome(3, 0.9, endpoint="order", failure="timeout", ended_s=None, status=None),
    ]
    figures: Any = summary(outcomes, timeout_s=10)
    assert set(figures["by_endpoint"]) == {"list", "detail", "order"}
    assert figures["by_group"]["reads"] == {
        "count": 2, "failed": 0, "p50_s": 0.1, "p95_s": 0.2, "p99_s": 0.2,
    }  # fmt: skip
    assert figures["by_group"]["orders"]["p95_s"] == 10


def test_a_habit_is_counted_where_an_answer_came_and_only_for_what_is_wrong_with_it() -> None:
    arrivals = [
        Arrival(number=0, due_s=0, endpoint="replay"),
        Arrival(number=1, due_s=1, endpoint="replay", request_id="a"),
        Arrival(number=2, due_s=2, endpoint="replay"),
        Arrival(number=3, due_s=3, endpoint="replay"),
        Arrival(number=4, due_s=4, endpoint="list", limit=7),
        Arrival(number=5, due_s=5, endpoint="list", limit=7),
    ]
    failures = [
        "another-order",
        "wrong-request-id",
        "timeout",
        "status-503",
        "stale-availability",
        "malformed",
    ]
    outcomes = [
        outcome(number, 0.1, failure=failure, status=None if failure == "timeout" else 200)
        for number, failure in enumerate(failures)
    ]
    assert habits(outcomes, arrivals, ("replay", "limit", "request-id")) == {
        "limit": {"asked": 2, "wrong": 1},
        "request-id": {"asked": 1, "wrong": 1},
        "replay": {"asked": 3, "wrong": 1},
    }
    assert habits(outcomes, arrivals, ("waitlist",)) == {"waitlist": {"asked": 0, "wrong": 0}}


def test_without_a_right_answer_there_is_no_cost_per_answer() -> None:
    refused = [outcome(1, 0.1, failure="refused")]
    assert cost(refused, cpu_s=1)["cpu_per_correct_request_s"] is None
    figures: Any = summary(refused, timeout_s=10)
    assert figures["by_group"]["orders"]["p95_s"] is None


def test_the_series_are_told_per_request_and_per_second() -> None:
    outcomes = {
        "submission": [outcome(1, 0.25), outcome(2, 0.1, failure="not-sent", sent_s=None, ended_s=None)]
    }
    assert requests_csv(outcomes, start_s=START_S).splitlines() == [
        "arm,number,endpoint,due_s,sent_s,ended_s,status,failure",
        "submission,1,list,1.0000,1.0000,1.2500,200,",
        "submission,2,list,2.0000,,,200,not-sent",
    ]
    assert seconds_csv(outcomes, start_s=START_S, timeout_s=10).splitlines() == [
        "arm,second,offered,correct,p50_s,p95_s",
        "submission,1,1,1,0.25,0.25",
        "submission,2,1,0,10,10",
    ]
