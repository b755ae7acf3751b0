from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from devstack.artifacts import Outcome
from grader.model import CheckResult, Judgement, Measurement, RunLock, Scorecard, Verdict
from grader.reports.terminal import RunView, print_report
from grader.rubric import Rubric
from grader.scoring import score

HOSTILE = "[bold red]pwn[/] \x1b[2J\x07 :boom: [link=http://x]y"


def printed(scorecard: Scorecard, width: int = 100, *, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    print_report(scorecard, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def scorecard(lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult]) -> Scorecard:
    def failed(measured: float | str) -> Judgement:
        measurement = Measurement(
            name="p95 of /health/live", measured=measured, expected="≤ 0.36", unit="s", score=0
        )
        return Judgement(score=0, summary="slow", measurements=(measurement,))

    return score(
        lock.model_copy(update={"submission_name": HOSTILE}),
        rubric,
        [
            result("quick-reads", Verdict.FAILED, 0.0, judgement=failed(2.125)),
            result("slow-writes", Verdict.FAILED, 0.0, judgement=failed(HOSTILE)),
            result("retries", Verdict.PASSED, 1.0),
            result("timeouts", Verdict.BLOCKED, 0.0, blocked_by="busy-minute: never ready within 30 s"),
        ],
    )


def test_lost_points_come_first_to_last_by_weight_with_measured_and_expected(scorecard: Scorecard) -> None:
    text = printed(scorecard)
    assert text.index("−42.0 slow-writes is broken") < text.index("−18.0 quick-reads is broken")
    assert "p95 of /health/live: 2.125 s, expected ≤ 0.36 s" in text
    assert "−20.0 never ready within 30 s" in text
    assert "Passed (1)" in text
    assert "NO SANDBOX" in text
    assert text.index("Total") < text.index("Lost points")


def test_text_of_a_submission_is_shown_as_it_is(scorecard: Scorecard) -> None:
    text = printed(scorecard)
    assert "[bold red]pwn[/]" in text
    assert ":boom:" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(scorecard: Scorecard, width: int) -> None:
    assert max(cell_len(line) for line in printed(scorecard, width).splitlines()) <= min(width, 110)


def test_colours_follow_no_color(scorecard: Scorecard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in printed(scorecard, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed(scorecard, terminal=True)


def test_what_could_not_be_judged_says_why(
    lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult]
) -> None:
    results = [
        result("quick-reads", Verdict.PASSED, 1.0),
        result("slow-writes", Verdict.ERRORED, error="the machine was busy"),
        result("retries", Verdict.PARTIAL, 0.5, judgement=Judgement(score=0.5, summary="half of them")),
        result("timeouts", Verdict.NOT_APPLICABLE, not_applicable="no timeouts in this design"),
    ]
    text = printed(score(lock, rubric, results))
    assert "slow-writes: the machine was busy" in text
    assert "timeouts: no timeouts in this design" in text
    assert "−20.0 retries is broken (partly)" in text
    assert "half of them" in text
    assert text.count("undecided") == 2  # the category and the total


def drive(console: Console) -> None:
    with RunView(console) as view:
        view.phase("scenarios", scenarios=2)
        view.scenario_started("busy-minute")
        view.scenario_started("outage")
        view.scenario_ended("outage", Outcome(kind="blocked", reason=HOSTILE))
        view.scenario_ended("busy-minute", Outcome())


def test_progress_without_a_terminal_is_plain_lines() -> None:
    out = io.StringIO()
    drive(Console(file=out, width=80))
    lines = [line.split(" s ", 1)[1].strip() for line in out.getvalue().splitlines()]
    assert lines[:3] == ["scenarios", "busy-minute …", "outage …"]
    assert lines[3].startswith("outage blocked: [bold red]pwn[/]")
    assert lines[4] == "busy-minute completed (0 s)"
    assert "\x1b" not in out.getvalue()


def interrupted(console: Console) -> None:
    with RunView(console) as view:
        view.phase("scenarios", scenarios=2)
        view.scenario_started("busy-minute")
        raise KeyboardInterrupt


def test_the_terminal_is_given_back_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with pytest.raises(KeyboardInterrupt):
        interrupted(console)
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    assert "busy-minute 0 s" in out.getvalue()


def test_the_sandbox_is_told(lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult]) -> None:
    inside = lock.model_copy(
        update={"sandbox_level": "strong", "sandbox_details": ("bubblewrap 1.2", "memory by x")}
    )
    text = printed(score(inside, rubric, [result("retries", Verdict.PASSED, 1.0)]))
    assert "NO SANDBOX" not in text
    assert "strong: bubblewrap 1.2, memory by x" in text
