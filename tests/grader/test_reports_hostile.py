"""Whatever a submission says, nothing that acts comes out: of reports, progress, error lines, or Python itself."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hostile_text import FRAGMENTS, acting, hostile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from traces import Ended

from devstack.artifacts import Artifact, Charge, Ledger, Message, Outcome, UpstreamCall
from grader.evidence import evidence_of
from grader.judging import regrade
from grader.model import CheckOutcome, CheckResult, Judgement, Measurement, RunLock, Scorecard, Verdict
from grader.paths import RunPaths, canonical_json, write_json
from grader.reports import diagnostics
from grader.reports import json as json_report
from grader.reports.terminal import RunView, print_report
from grader.rubric import Rubric
from grader.scoring import score
from grader.validate.progress import Progress

EVERYTHING = " ".join(FRAGMENTS)
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def hostile_scorecard(
    text: str, lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult]
) -> Scorecard:
    """``text`` wherever a submission's text can be."""
    measured = Measurement(name=text, measured=text, expected=text, unit=text, score=0, source=text)
    call = UpstreamCall(
        upstream="mailer", operation=text, connection=1, started_s=0, method=text, path=text,
        headers={text: text}, body={text: [text]}, idempotency_key=text, item=text, fault=text,
    )  # fmt: skip
    charge = Charge(
        charge_id=text, order_ref=text, amount=text, currency=text, status="captured", idempotency_key=text,
        captured_s=0, card_token=text,
    )  # fmt: skip
    message = Message(to=text, template=text, order_id=text, idempotency_key=text, accepted_s=0)
    ledger = Ledger(taken_s=1, calls=(call,), charges=(charge,), messages=(message,))
    evidence = (evidence_of(text, text), evidence_of(ledger, text))
    judgement = Judgement(score=0, summary=text, measurements=(measured,), evidence=evidence)
    told = Judgement(score=0.5, summary=text)
    return score(
        lock.model_copy(
            update={"submission_name": text, "warnings": (text,), "red_flags": (text,), "sandbox_details": (text,)}
        ),
        rubric,
        [
            result("quick-reads", Verdict.FAILED, 0.0, judgement=judgement),
            result("slow-writes", Verdict.PARTIAL, 0.5, judgement=told),
            result("retries", Verdict.BLOCKED, 0.0, blocked_by=f"busy-minute: {text}"),
            result("timeouts", Verdict.ERRORED, error=text),
        ],
    )  # fmt: skip


@SETTINGS
@given(hostile, st.integers(20, 120))
@example(EVERYTHING, 40)
@example("x" * 33 + "::error::pwn", 40)
def test_nothing_acts_in_a_printed_report_however_it_is_wrapped(
    lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult], text: str, width: int
) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_report(hostile_scorecard(text, lock, rubric, result), console)
    assert isinstance(console.file, io.StringIO)
    assert acting(console.file.getvalue()) == []


@SETTINGS
@given(hostile)
@example(EVERYTHING)
def test_the_json_report_reads_back_and_can_be_shown_as_it_is(
    lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult], text: str
) -> None:
    scorecard = hostile_scorecard(text, lock, rubric, result)
    rendered = json_report.render(scorecard)
    assert acting(rendered) == []
    rendered.encode("utf-8")
    document = json.loads(rendered)
    jsonschema.validate(document, json.loads(json_report.schema()))
    readable = "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)
    assert document["lock"]["submission_name"] == readable
    assert Scorecard.model_validate_json(rendered).lock.submission_name == readable


def test_ordinary_text_is_not_escaped_in_json() -> None:
    text = "≤ 0.36 s, naïve café, 東京, שלום, 🎫, ## a heading, a::b, [x], #1"
    assert f'"{text}"' in canonical_json({"text": text})


@SETTINGS
@given(hostile)
@example(EVERYTHING)
def test_nothing_acts_in_the_progress_of_a_run(text: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, highlight=False)
    with RunView(console) as view:
        view.phase(text, scenarios=1)
        view.scenario_started(text)
        console.print(view)
        view.scenario_ended(text, Outcome(kind="blocked", reason=text))
    with Progress(console) as progress:
        progress.note(text)
    assert acting(out.getvalue()) == []


def test_nothing_but_rich_itself_acts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    written = []
    for text in (EVERYTHING, "x"):
        out = io.StringIO()
        console = Console(file=out, width=60, force_terminal=True, highlight=False)
        with RunView(console) as view:
            view.scenario_started(text)
            view.scenario_ended(text, Outcome(kind="blocked", reason=text))
        written.append({each for each in out.getvalue() if not each.isprintable()})
    assert written[0] == written[1]


NAMES = ("::error::pwn", "##[command]", "\x1b[2J", "\u202e", "x\n::debug::y", EVERYTHING)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_nothing_acts_in_an_error_line(grader: Callable[..., Ended], tmp_path: Path, name: str) -> None:
    ended = grader("regrade", tmp_path / name.encode("utf-8", "replace").decode())
    assert ended.err.startswith("grader: ")
    assert acting(ended.err) == []
    assert acting(ended.out) == []


CHECKS = """
@check(id="quick-reads", category="first")
def test_reads(busy_minute, judge):
    judge.evidence(busy_minute.ledger(), "calls")
    judge.evidence(busy_minute.log_tail, "log")
    judge.true("reads", False, busy_minute.log_tail)

@check(id="slow-writes", category="first")
def test_writes(busy_minute, judge):
    judge.summary(busy_minute.log_tail)
    judge.equal("writes", busy_minute.log_tail, "x")

@check(id="retries", category="second")
def test_retries(busy_minute, judge):
    raise ValueError(busy_minute.log_tail)

@check(id="timeouts", category="second")
def test_timeouts(busy_minute, judge):
    judge.not_applicable(busy_minute.log_tail)
"""


def test_a_record_full_of_hostile_text_is_judged_like_any_other(
    run: RunPaths, checks_folder: Callable[[str], Path]
) -> None:
    call = UpstreamCall(upstream="mailer", operation="message", connection=1, started_s=0, method="POST", path="/",
        headers={"x": EVERYTHING})  # fmt: skip
    ledger = Ledger(taken_s=1, calls=(call,))
    write_json(run.artifact("busy-minute", 1), Artifact(scenario="busy-minute", ledgers={"final": ledger}, log_tail=EVERYTHING))  # fmt: skip
    scorecard = regrade(run.root, extra_checks=[checks_folder(CHECKS)])
    assert {result.id: result.verdict for result in scorecard.results} == {
        "quick-reads": Verdict.FAILED,
        "slow-writes": Verdict.FAILED,
        "retries": Verdict.ERRORED,
        "timeouts": Verdict.NOT_APPLICABLE,
    }
    assert acting(run.scorecard.read_text()) == []
    console = Console(file=io.StringIO(), width=60, highlight=False)
    print_report(scorecard, console)
    assert isinstance(console.file, io.StringIO)
    assert acting(console.file.getvalue()) == []


@SETTINGS
@given(hostile)
def test_nothing_acts_in_what_python_prints_by_itself(text: str) -> None:
    before, sys.stderr = sys.stderr, io.StringIO()
    try:
        with diagnostics.escaped():
            logging.getLogger("anything").warning("%s", text)
            try:
                raise ValueError(text)
            except ValueError as error:
                logging.getLogger("anything").exception("failed")
                diagnostics.tell_defect(error)
                sys.excepthook(ValueError, error, None)
                threading.excepthook(
                    threading.ExceptHookArgs((ValueError, error, None, threading.current_thread()))
                )
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning(text, UserWarning, text, 1)
        printed = sys.stderr.getvalue()
    finally:
        sys.stderr = before
    assert acting(printed) == []
    assert printed.count("ValueError") >= 4


def test_python_prints_as_before_afterwards() -> None:
    before = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    with diagnostics.escaped():
        assert sys.excepthook is not before[0]
    assert (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning) == before


def test_a_long_traceback_keeps_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    diagnostics.tell("a\n" * diagnostics.LONGEST_CHARACTERS + "the reason")
    assert capsys.readouterr().err.startswith("…\n")


def test_every_record_of_a_run_is_written_so_that_it_can_be_read_back(tmp_path: Path) -> None:
    outcome = CheckOutcome(id="a-check", verdict=Verdict.ERRORED, error=EVERYTHING)
    path = RunPaths(tmp_path).artifact("scenario", 1)
    write_json(path, outcome)
    read = CheckOutcome.model_validate_json(path.read_bytes())
    assert read.error == EVERYTHING.replace("\ud800", "\ufffd").replace("\udc00", "\ufffd")
    assert acting(path.read_text()) == []
