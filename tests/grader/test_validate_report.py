"""Counting, bounds, the page and the exit code."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from validating import MACHINE, METAS, digests, mutant, row, seen

from grader.errors import ExitCode
from grader.model import Verdict
from grader.rubric import Rubric
from grader.validate.bounds import clopper_pearson
from grader.validate.campaign import Outcome
from grader.validate.cli import exit_code, tell
from grader.validate.confusion import Counts, confusion, settled, total
from grader.validate.findings import decide, findings
from grader.validate.progress import Progress, told_duration
from grader.validate.report import render
from grader.validate.rows import Row, Seen
from grader.validate.subjects import Kind, Subject
from grader.validate.units import Unit

ONE = mutant("one", "of-calm", also={"of-load": "slower"})
TWO = mutant("two", "of-wait")
RUBRIC = Rubric.model_validate(
    {
        "schema_version": 1,
        "digest": "d",
        "categories": {
            "c": {
                "title": "C",
                "weight": 100,
                "checks": {
                    name: {"points": 10, "tag": "core", "reason": "r"}
                    for name in ("of-load", "of-calm", "of-wait", "of-both")
                },
            }
        },
    }
)
RIGHT = (row("one", fell=("of-calm",)), row("two", "wait", fell=("of-wait",)))


def judged(*rows: Row, subjects: tuple[Subject, ...] = (ONE, TWO)) -> dict[tuple[str, str], str]:
    found = settled(findings(subjects, METAS, rows))
    return {(one.subject, one.check): one.result for one in found}


def outcome(*rows: Row, missing: int = 0) -> Outcome:
    found = tuple(findings((ONE, TWO), METAS, rows))
    return Outcome(rows=rows, findings=found, driven=2, repeated=1, missing=missing, stale=3, unreadable=1)


# -- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "of", "lower", "upper"),
    [
        (0, 97, 0.0, 0.0373),
        (97, 97, 0.9627, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 20, 0.0013, 0.2487),
        (2, 30, 0.0082, 0.2207),
        (0, 1, 0.0, 0.975),
        (0, 3000, 0.0, 0.00123),
        (1500, 3000, 0.48195, 0.51805),
        (0, 0, 0.0, 1.0),
    ],
)
def test_bounds_are_the_known_ones(count: int, of: int, lower: float, upper: float) -> None:
    assert clopper_pearson(count, of) == pytest.approx((lower, upper), abs=6e-5)


@pytest.mark.parametrize(("count", "of"), [(-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        clopper_pearson(count, of)


# -- verdicts ----------------------------------------------------------------------------------------------

PASSED, FAILED = seen(fell=False), seen(fell=True)
PARTIAL = Seen(verdict=Verdict.PARTIAL, score=0.5, told="half")
ERRORED = Seen(verdict=Verdict.ERRORED, told="ours")
ABSENT = Seen(verdict=Verdict.NOT_APPLICABLE, told="another design")


@pytest.mark.parametrize(
    ("attempts", "result", "told"),
    [
        ((FAILED,), "falls", "too slow"),
        ((PARTIAL,), "falls", "half"),
        ((PASSED,), "holds", ""),
        ((FAILED, PASSED, PASSED), "holds", ""),
        ((PASSED, FAILED, PARTIAL), "falls", "half"),
        ((ERRORED,), "errored", "ours"),
        ((ERRORED, FAILED), "falls", "too slow"),
        ((PASSED, FAILED), "errored", "too slow"),
        ((ABSENT,), "absent", "another design"),
        ((ABSENT, PASSED, PASSED), "holds", ""),
        ((), "errored", "no verdict"),
    ],
)
def test_the_median_of_what_had_a_verdict_decides(attempts: tuple[Seen, ...], result: str, told: str) -> None:
    assert decide(attempts) == (result, told)


def test_a_check_of_several_scenarios_needs_all_of_them() -> None:
    alone = judged(row("one"))
    assert ("one", "of-both") not in alone
    both = judged(row("one"), row("one", "wait", fell=("of-both",)))
    assert both["one", "of-both"] == "falls"


def test_the_later_row_had_all_the_records() -> None:
    rows = (row("one", fell=("of-both",)), row("one", "wait"))
    later = row("one", "wait", verdicts={"of-wait": PASSED, "of-both": PASSED})
    assert judged(rows[0], later)["one", "of-both"] == "holds"


def test_an_attempt_that_could_be_driven_speaks_before_one_that_could_not() -> None:
    blocked = row("one", outcome="blocked", fell=("of-calm",))
    assert judged(blocked)["one", "of-calm"] == "falls"
    assert judged(blocked, row("one", attempt=2))["one", "of-calm"] == "holds"


def test_an_absent_check_proves_nothing_but_is_a_miss_where_it_had_to_fall() -> None:
    found = findings((ONE, TWO), METAS, (row("one", verdicts={"of-calm": ABSENT}), row("two", verdicts={"of-calm": ABSENT})))  # fmt: skip
    assert [(one.subject, one.missed) for one in found if one.check == "of-calm"] == [
        ("one", True),
        ("two", False),
    ]
    counts = confusion(["of-calm"], (ONE, TWO), found)["of-calm"]
    assert (counts.missed, counts.must_hold) == (1, 0)


# -- counts ------------------------------------------------------------------------------------------------


def test_every_cell_that_was_driven_is_counted_once_and_the_others_are_reused() -> None:
    rows = (
        *RIGHT,
        row("one", "load", fell=("of-load",)),
        row("two", "calm", fell=("of-calm",)),
    )
    found = settled(findings((ONE, TWO), METAS, rows))
    counts = confusion(list(METAS), (ONE, TWO), found)
    assert counts["of-calm"] == Counts(seen=1, false_alarms=1)
    assert counts["of-wait"] == Counts(seen=1, reused=1)
    assert counts["of-load"] == Counts(explained=1, reused=1)
    assert total(counts.values()).must_fall == 2


def test_of_several_seeds_the_worst_counts_so_that_a_subject_is_one_case() -> None:
    rows = (row("one", fell=("of-calm",)), row("one", seed=2), row("one", seed=3, fell=("of-calm",)))
    found = settled(findings((ONE,), METAS, rows))
    assert [(one.check, one.seed, one.missed) for one in found] == [("of-calm", 2, True)]


def test_trouble_is_undecided_not_missed() -> None:
    troubled = row("one", outcome="trouble", verdicts={"of-calm": ERRORED})
    counts = confusion(["of-calm"], (ONE,), settled(findings((ONE,), METAS, (troubled,))))["of-calm"]
    assert counts == Counts(errored=1)
    assert counts.decidable == 1


# -- page --------------------------------------------------------------------------------------------------


def page(*rows: Row) -> str:
    return render((ONE, TWO), METAS, RUBRIC, rows, digests("one", "two"))


def test_the_page_is_the_same_for_the_same_evidence_in_any_order() -> None:
    assert page(*RIGHT) == page(*RIGHT[::-1])


def test_the_page_tells_what_was_counted_and_on_what_machine() -> None:
    text = page(*RIGHT)
    assert "| of-calm | 1 | 1 | 0 | 2.5 % | 0 | 0 | 0 | — | 0 | 0 | 1 |" in text
    assert "| **all** | 2 | 2 | 0 |" in text
    assert "2 × x86_64, Linux 6" in text
    assert "## Not as expected\n\nNothing." in text
    assert "| one | mutant | 1 of 3 | of-calm | — | — |" in text
    assert text.index("| of-load |") < text.index("| of-calm |"), "the order is the rubric's"


def test_the_page_lists_misses_and_false_alarms_and_who_was_not_driven() -> None:
    text = page(row("one", "calm"), row("one", "wait", fell=("of-wait",)))
    assert "- missed: `of-calm` on one (seed 1, 1 observations)" in text
    assert "- false alarm: `of-wait` on one (seed 1, 1 observations): too slow" in text
    assert "Not driven yet: two." in text


def test_the_page_tells_what_only_repetition_put_right() -> None:
    once_missed = tuple(
        row("one", attempt=attempt, fell=("of-calm",) if attempt > 1 else ()) for attempt in (1, 2, 3)
    )
    text = page(*once_missed)
    assert "1 were seen and 0 missed" in text
    assert "Before anything was repeated, 1 verdicts were not as expected." in text


def test_what_a_submission_told_cannot_break_the_page() -> None:
    nasty = row("two", verdicts={"of-calm": Seen(verdict=Verdict.FAILED, score=0.0, told="a|b <script> `x`")})
    assert "a/b ‹script› 'x'" in page(nasty)


def test_a_page_without_evidence_says_so() -> None:
    text = page()
    assert "| driven | nothing yet |" in text
    assert "Not driven yet: one, two." in text


# -- exit code and lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (outcome(*RIGHT), ExitCode.GRADED),
        (outcome(row("one")), ExitCode.BELOW),
        (outcome(*RIGHT, row("two", "calm", fell=("of-calm",))), ExitCode.BELOW),
        (outcome(*RIGHT, missing=1), ExitCode.UNDECIDED),
        (outcome(row("one", outcome="trouble", verdicts={"of-calm": ERRORED})), ExitCode.UNDECIDED),
        (outcome(row("one", "load", outcome="trouble", verdicts={"of-load": ERRORED})), ExitCode.GRADED),
        (outcome(row("one"), missing=1), ExitCode.BELOW),
    ],
    ids=[
        "as expected",
        "missed",
        "false alarm",
        "not driven",
        "errored",
        "errored where either goes",
        "both",
    ],
)
def test_the_exit_code_says_how_it_went(ending: Outcome, code: ExitCode) -> None:
    assert exit_code(ending) is code


def test_each_subject_has_a_line_and_each_finding_its_reason() -> None:
    told = io.StringIO()
    both = {"of-wait": FAILED, "of-both": PASSED}
    alarm = outcome(row("one", fell=("of-calm",)), row("one", "wait", verdicts=both), missing=1)
    tell(Console(file=told, width=200), (ONE, TWO), alarm)
    assert told.getvalue().splitlines() == [
        "NOT one",
        "      false alarm: of-wait: too slow",
        "—   two",
        "2 units driven, 1 of them to repeat what was unexpected, 1 not driven, "
        "3 stale rows left out (--prune removes them), 1 unreadable lines left out",
    ]


def test_a_miss_and_trouble_are_told_apart() -> None:
    told = io.StringIO()
    bad = outcome(row("one"), row("two", "wait", outcome="trouble", verdicts={"of-wait": ERRORED}))
    tell(Console(file=told, width=200), (ONE, TWO), bad)
    assert "not seen: of-calm: it passed" in told.getvalue()
    assert "undecided: of-wait: ours" in told.getvalue()


# -- progress ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (3 * 3600 + 300, "3 h 05 min")]
)
def test_durations_are_told_shortly(seconds: float, told: str) -> None:
    assert told_duration(seconds) == told


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_each_unit_and_what_is_left(terminal: bool) -> None:
    told = io.StringIO()
    unit = Unit("one", Kind.MUTANT, "t", "calm", "s", 1)
    console = Console(file=told, width=200, force_terminal=terminal, color_system=None)
    with Progress(console) as progress:
        progress.phase("driving", 2, 300)
        progress.started(unit, 1)
        progress.ended(unit, row("one", fell=("of-calm",)), 150)
        progress.ended(unit, row("one", outcome="blocked", reason="it did not start"), 0)
    assert "driving: 2 to drive, all of it done in about 5 min" in told.getvalue()
    assert "1/2 one calm completed (2 s, 2 min left) fell: of-calm" in told.getvalue()
    assert "2/2 one calm blocked (2 s, 0 s left): it did not start" in told.getvalue()


def test_the_machine_of_the_evidence_has_no_name() -> None:
    assert set(type(MACHINE).model_fields) == {"cpus", "system", "processor"}
