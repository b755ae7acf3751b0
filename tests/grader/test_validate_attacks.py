"""The harness of attacks: what holds, what does not, what was left behind. Grades are played by a few lines here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from grader.cli import app
from grader.errors import ExitCode, GraderError, RunDirectoryError, UsageError
from grader.model import CategoryScore, CheckResult, Judgement, RunLock, Scorecard, Verdict
from grader.validate.attacks import campaign, leftovers
from grader.validate.attacks.campaign import AttacksRequest, validate_attacks
from grader.validate.attacks.evidence import (
    AttackRow,
    digest_of,
    merged,
    read_rows,
    render,
    write_rows,
    write_table,
)
from grader.validate.attacks.holding import faults, points
from grader.validate.attacks.running import Observed
from grader.validate.attacks.table import Attack, AttackTable, load_attacks
from grader.validate.units import Hardware

ATTACKS = load_attacks()
EXPECT = 'title = "t"\ncases = [1]\nonly = ["load-errors"]\n'


def table(**fields: object) -> AttackTable:
    return AttackTable.model_validate({"title": "t", **fields})


@pytest.fixture
def card(lock: RunLock, result: Callable[..., CheckResult]) -> Callable[..., Scorecard]:
    """A scorecard of two checks; ``verdict`` is that of the first."""

    def make(verdict: Verdict = Verdict.PASSED, flags: tuple[str, ...] = ()) -> Scorecard:
        score = 1.0 if verdict is Verdict.PASSED else 0.0
        found = (
            result(
                "quick-reads", verdict=verdict, score=score, judgement=Judgement(score=score, summary="why")
            ),
            result("slow-writes", Verdict.PASSED, 1.0),
        )
        categories = (CategoryScore(id="first", title="First", weight=60, points=100, score=None),)
        return Scorecard(
            score=None, complete=False, categories=categories, results=found, red_flags=flags, lock=lock
        )

    return make


def told(
    observed: Observed, baseline: float | None = None, left: tuple[str, ...] = (), **fields: object
) -> str:
    return " | ".join(faults(table(**fields), observed, baseline, left))


# -- what an attack is -------------------------------------------------------------------------------------


def test_every_case_of_the_list_has_an_attack() -> None:
    listed = {case for attack in ATTACKS for case in attack.table.cases}
    assert set(range(1, 48)) <= listed


def test_every_attack_that_is_graded_names_the_checks_that_it_is_compared_by() -> None:
    assert [one.name for one in ATTACKS if one.table.outcome == "graded" and not one.table.only] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('only = ["no-such-check"]', "there is no check 'no-such-check'"),
        ('log = ["("]', "is no regular expression"),
        ('pack = "no-such-packing"', "there is no packing"),
        ('levels = ["strong"]', "container is neither in levels nor in not_applicable"),
        ('base = "nowhere"', "there is no base"),
        ("", "neither attack.patch nor a packing"),
    ],
)
def test_a_malformed_attack_is_said_to_be_one(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "expect.toml").write_text(f'title = "t"\n{text}\n')
    if "base" in text:
        (tmp_path / "one" / "attack.patch").touch()
    with pytest.raises(UsageError, match=reason):
        load_attacks(folder=tmp_path)


def test_an_attack_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(UsageError, match="there is no attack 'nobody'"):
        load_attacks(["nobody"])


# -- what holds --------------------------------------------------------------------------------------------


def test_an_attack_that_did_what_was_expected_holds(card: Callable[..., Scorecard]) -> None:
    seen = Observed(0, "fine", card(flags=("asks who asks",)), lines={"^denied": "denied"})
    fields = {"log": ["^denied"], "never_log": ["^got"], "signs": ["who"]}
    assert told(seen, 100.0, **fields) == ""


def test_each_thing_that_is_not_as_expected_is_told(card: Callable[..., Scorecard]) -> None:
    seen = Observed(2, "a\nundecided\n", None, lines={"^got": "got it"}, leaked=("logs/x",))
    said = told(seen, None, ("process 7 x",), log=["^denied"], never_log=["^got"], says="nothing like it")
    for part in (
        "exit code 2, and it said: undecided", "nothing said matches", "no line of the log matches ^denied",
        "the log says: got it", "stands in logs/x", "left behind: process 7 x",
    ):  # fmt: skip
        assert part in said
    assert "did not end" in told(Observed(None, "", None))
    assert told(Observed(0, "", None)) == "there is no scorecard"


def test_checks_that_must_fall_or_hold_are_looked_at(card: Callable[..., Scorecard]) -> None:
    names = {"falls": ["load-errors"]}
    assert "load-errors should fall, and is not there" in told(Observed(0, "", card()), **names)
    assert "it was not run" in told(Observed(0, "", card()), holds=["load-errors"])
    assert "no red flag matches x" in told(Observed(0, "", card()), signs=["x"])


def test_points_are_those_of_the_whole_scale(card: Callable[..., Scorecard]) -> None:
    assert points(card()) == pytest.approx(60)
    assert points(card(), ("quick-reads",)) == pytest.approx(18)
    assert points(card(Verdict.FAILED)) == pytest.approx(42)


def test_more_than_a_point_more_than_the_honest_submission_is_a_gain(card: Callable[..., Scorecard]) -> None:
    assert told(Observed(0, "", card()), 59.0) == ""
    assert told(Observed(0, "", card()), 58.5) == "it earned 60.0 points, the honest submission 58.5"


# -- what is left behind -----------------------------------------------------------------------------------


@pytest.mark.integration
def test_what_is_left_behind_is_found_and_ended(tmp_path: Path) -> None:
    """In a process of its own, because it adopts whatever loses its parent."""
    script = textwrap.dedent(
        """
        import os, subprocess, sys, tempfile
        from grader.validate.attacks import leftovers

        leftovers.PATIENCE_S = 1.0
        leftovers.adopt_orphans()
        before = leftovers.look()
        daemon = "import os, socket, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0);" \\
            "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); open(%r, 'w'); time.sleep(600)"
        mark = os.path.join(tempfile.gettempdir(), f"left-{os.getpid()}")
        subprocess.run([sys.executable, "-c", daemon % mark], check=True)
        while not os.path.exists(mark):
            pass
        left = leftovers.left_since(before)
        leftovers.end_orphans()
        os.unlink(mark)
        kinds = {thing.split()[0] for thing in left}
        assert {"process", "port", "file"} <= kinds, left
        import time
        while [thing for thing in leftovers.left_since(before) if thing.startswith("process")]:
            time.sleep(0.05)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- all of them -------------------------------------------------------------------------------------------

PLAYED = """
import pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "logs" / "contract" / "1").mkdir(parents=True)
(out / "logs" / "contract" / "1" / "service.log").write_text("attack: begun\\n")
(out / "scorecard.json").write_text(sys.argv[2])
print("graded")
"""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, card: Callable[..., Scorecard]) -> list[Path | str]:
    """Instead of a grade: a process that leaves a scorecard. The submissions that were handed in."""
    given: list[Path | str] = []

    def command(submission: Path | str, out: Path, **_: object) -> list[str]:
        given.append(submission)
        return [sys.executable, "-c", PLAYED, str(out), card().model_dump_json()]

    monkeypatch.setattr(campaign, "command", command)
    monkeypatch.setattr(leftovers, "adopt_orphans", lambda: None)
    monkeypatch.setattr(leftovers, "left_since", lambda before: ())
    monkeypatch.setattr(leftovers, "end_orphans", lambda: None)
    return given


def attacks_in(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "attack.patch").write_text(
            "diff --git NEW.md NEW.md\nnew file mode 100644\n--- /dev/null\n+++ b/NEW.md\n@@ -0,0 +1 @@\n+x\n"
        )
        (folder / name / "expect.toml").write_text(f"{EXPECT}{text}\n")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "attacks"
    attacks_in(folder, good='log = ["^attack: begun"]', bad='never_log = ["^attack: begun"]')
    for place in ("campaign", "table"):
        monkeypatch.setattr(f"grader.validate.attacks.{place}.attacks_folder", lambda: folder)
    return folder


def test_every_attack_is_driven_and_told(made: Path, played: list[Path | str], tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    evidence, report = tmp_path / "attacks.jsonl", tmp_path / "security.md"
    report.write_text("before\n<!-- attacks -->\nold\n<!-- /attacks -->\nafter\n")
    request = AttacksRequest(evidence=evidence, report=report, lanes=2, keep=tmp_path / "kept")
    assert validate_attacks(request, console) is ExitCode.BELOW

    said = console.export_text()
    assert "1 of 2 attacks hold at level strong" in said
    assert "the log says: attack: begun" in said
    assert {row.attack: bool(row.faults) for row in read_rows(evidence)} == {"good": False, "bad": True}
    text = report.read_text()
    assert text.startswith("before\n<!-- attacks -->")
    assert text.endswith("<!-- /attacks -->\nafter\n")
    assert "\nold\n" not in text
    assert len(played) == 4  # the honest one, both, and the one that did not hold once more
    assert all((Path(place) / "NEW.md").exists() for place in played[1:])


def test_without_driving_the_table_is_made_of_what_there_is(made: Path, tmp_path: Path) -> None:
    request = AttacksRequest(evidence=tmp_path / "none.jsonl", drive=False)
    assert validate_attacks(request, Console(file=io.StringIO())) is ExitCode.GRADED


def test_an_honest_submission_that_cannot_be_graded_stops_it(
    made: Path, played: list[Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [sys.executable, "-c", "print('no sandbox here'); raise SystemExit(2)"]
    monkeypatch.setattr(campaign, "command", lambda *_, **__: failing)
    with pytest.raises(GraderError, match="the honest solution could not be graded: no sandbox here"):
        validate_attacks(AttacksRequest(evidence=tmp_path / "x"), Console(file=io.StringIO()))


def test_the_command_line_offers_it(made: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["validate", "--attacks", "--no-drive", "--evidence", str(tmp_path / "x"), "--sandbox", "container"],
    )
    assert done.exit_code == 0, done.output


# -- evidence ----------------------------------------------------------------------------------------------


def row(attack: Attack, **fields: object) -> AttackRow:
    return AttackRow.model_validate(
        {
            "attack": attack.name, "digest": digest_of(attack), "level": "strong", "caller": "root",
            "date": "2026-01-01", "duration_s": 1.0, "machine": Hardware.here(), **fields,
        }
    )  # fmt: skip


def test_the_latest_row_of_each_place_counts(tmp_path: Path) -> None:
    one = ATTACKS[0]
    rows = merged([row(one, faults=("x",))], [row(one), row(one, caller="user")])
    write_rows(tmp_path / "rows", rows)
    assert read_rows(tmp_path / "rows") == rows
    assert [(found.caller, found.faults) for found in rows] == [("root", ()), ("user", ())]


def test_what_is_no_evidence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(json.dumps({"attack": "x"}))
    with pytest.raises(RunDirectoryError, match="is not evidence of attacks"):
        read_rows(tmp_path / "rows")


def test_the_table_says_what_held_and_what_was_not_driven() -> None:
    everywhere = next(one for one in ATTACKS if one.table.levels == ("strong", "container"))
    traced = next(one for one in ATTACKS if one.table.levels == ("strong",))
    text = render([everywhere, traced], [row(everywhere), row(everywhere, caller="user", faults=("x",))])
    assert (
        "1 of 2 hold at `strong`, called by root; 0 of 2 hold at `strong`, called by an ordinary user" in text
    )
    assert "| held | **not held** | not driven |" in text
    assert f"- `{traced.name}` at `container`: {traced.table.not_applicable['container']}." in text


def test_a_row_of_other_files_does_not_count() -> None:
    assert "| not driven |" in render([ATTACKS[0]], [row(ATTACKS[0], digest="0")])


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(UsageError, match="has no lines <!-- attacks -->"):
        write_table(tmp_path / "page.md", ATTACKS, ())
