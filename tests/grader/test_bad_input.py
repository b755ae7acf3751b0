"""Bad input: one line with the reason and the next step, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from traces import Ended, Traces

from devstack.world import World
from grader import pipeline
from grader.intake import FROZEN_MIGRATION
from grader.model import Scorecard, Verdict
from grader.paths import RunPaths
from grader.rubric import default_rubric

Tiny = Callable[..., Path]


def scorecard_of(run: Path) -> Scorecard:
    return Scorecard.model_validate_json(RunPaths(run).scorecard.read_bytes())


def own_rubric(tmp_path: Path, old: str, new: str) -> Path:
    text = default_rubric().read_text()
    assert old in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(old, new, 1))
    return path


# -- refused before anything starts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "{tmp}/nowhere"], "there is no submission at {tmp}/nowhere: pass the folder that holds src/boxoffice"),
        (["run", "{tmp}"], "{tmp} is not a box office: there is no package at src/boxoffice; pass the submission's root"),
        (["run", __file__], "is neither a folder nor a .zip or .tar.gz archive: pack it as one of them"),
        (["run"], "Missing argument 'SUBMISSION'. (see grader --help)"),
        (["run", "{tiny}", "--only", "oder-validation"], "no check or category is called 'oder-validation' (did you mean 'order-validation'?)"),
        (["run", "{tiny}", "--only", "x"], "no check or category is called 'x' (categories: async-fundamentals, "),
        (["run", "{tiny}", "--quick", "--only", "load-errors"], "--quick leaves out every chosen check (choose others, or drop --quick)"),
        (["run", "{tiny}", "--rubric", "{tmp}/none.toml"], "cannot read the rubric {tmp}/none.toml: No such file or directory (leave --rubric out"),
        (["run", "{tiny}", "--rubric", __file__], "test_bad_input.py is not TOML: "),
        (["run", "{tiny}", "--out", "{tmp}"], "{tmp} is not empty: choose another folder for --out, or remove it first"),
        (["run", "{tiny}", "--out", __file__], "cannot use " + __file__ + " for the run: File exists; choose another --out"),
        (["run", "{tiny}", "--out", "/proc/run"], "cannot use /proc/run for the run: No such file or directory; choose another --out"),
        (["run", "{tiny}", "--fail-under", "101"], "Invalid value for '--fail-under': Input should be less than or equal to 100 (see"),
        (["run", "{tiny}", "--seed", "x"], "Invalid value for '--seed': "),
        (["run", "{tiny}", "--frobnicate"], "No such option: --frobnicate "),
        (["grade"], "No such command 'grade'. Did you mean 'regrade'? (see grader --help)"),
        (["regrade", "{tmp}"], "{tmp} is not a run directory: no readable lock.json (give the folder of `grader run --out`)"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_one_line(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    places = {"tmp": str(tmp_path), "tiny": str(tiny())}
    ended = grader(*(argument.format(**places) for argument in arguments))

    assert ended.code == 3
    assert len(ended.complaints) == 1
    assert "Traceback" not in ended.err
    assert reason.format(**places) in ended.complaints[0]
    assert ended.out == ""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("weight = 25", "weight = 26", "weights of the categories add up to 101, not 100"),
        ("order-validation", "order-validatoin", "lists 'order-validatoin', but there is no such check (did you mean 'order-validation'?)"),
        ("points = ", "points = -", "points"),
    ],
)  # fmt: skip
def test_a_broken_rubric_is_refused(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    ended = grader("run", tiny(), "--rubric", own_rubric(tmp_path, old, new), "--out", tmp_path / "run")
    assert ended.code == 3
    assert len(ended.complaints) == 1
    assert reason in ended.complaints[0]
    assert not (tmp_path / "run").exists()


def change_frozen_migration(root: Path) -> None:
    file = root / "migrations" / FROZEN_MIGRATION
    file.write_text(file.read_text().replace("CREATE", "create", 1))


def ask_for_another_package(root: Path) -> None:
    (root / "pyproject.toml").write_text('[project]\ndependencies = ["torch"]')


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change_frozen_migration, "0001_initial.sql was changed, but it is frozen: restore it and put changes into 0002_….sql"),
        (ask_for_another_package, "torch is not on the allow-list of the brief (ALLOWED.txt)"),
    ],
)  # fmt: skip
def test_a_submission_that_breaks_the_rules_is_refused(
    grader: Callable[..., Ended],
    tiny: Tiny,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    root = tiny()
    spoil(root)
    ended = grader("run", root, "--out", tmp_path / "run")
    assert (ended.code, len(ended.complaints)) == (3, 1)
    assert reason in ended.complaints[0]
    assert (tmp_path / "run").is_dir()


# -- the machine cannot ---------------------------------------------------------------------------------------


def test_a_missing_postgresql_is_undecided(grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path) -> None:
    ended = grader("run", tiny(), "--out", tmp_path / "run", "--postgres-bin", tmp_path)
    assert ended.code == 2
    assert ended.complaints == [
        f"grader: no PostgreSQL program initdb in {tmp_path}; name a server's bin directory with --postgres-bin"
    ]
    assert (tmp_path / "run" / "submission").is_dir()


@pytest.mark.parametrize("where", ["cache", "run"])
def test_a_full_disk_is_undecided(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    usage = namedtuple("usage", "total used free")

    def disk_usage(path: Path) -> tuple[int, ...]:
        full = (Path(path) == tmp_path / "run") == (where == "run")
        return usage(10**12, 0, 150_000_000 if full else 10**12)

    monkeypatch.setattr(pipeline.shutil, "disk_usage", disk_usage)
    ended = grader("run", tiny(), "--out", tmp_path / "run")
    assert ended.code == 2
    [complaint] = ended.complaints
    assert complaint.startswith("grader: only 150 MB are free at ")
    assert complaint.endswith("(make room, or use another place with --out or BOXOFFICE_CACHE)")


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 4 MB, where the tests may mount one."""
    path = tmp_path / "small disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_fills_up_is_undecided_and_tells_where(
    grader: Callable[..., Ended],
    tiny: Tiny,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "RECORD_BYTES", 0)
    root = tiny()
    (root / "notes.bin").write_bytes(os.urandom(6_000_000))
    ended = grader("run", root, "--out", small_disk / "run")
    assert ended.code == 2
    [complaint] = ended.complaints
    assert "No space left on device" in complaint
    assert complaint.endswith("make room there")


def test_a_defect_of_the_grader_is_undecided_not_below(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(pipeline, "load_rubric", broken)
    ended = grader("run", tiny(), "--out", tmp_path / "run")
    assert ended.code == 2
    assert "Traceback" in ended.err, "for whoever repairs it"
    assert ended.complaints == ["grader: a defect of the grader, please report it: ZeroDivisionError: ours"]


# -- graded all the same --------------------------------------------------------------------------------------


def failing_migration(root: Path) -> None:
    (root / "migrations" / "0002_broken.sql").write_text("CREATE INDEX ON no_such_table (id);")


def never_ready(root: Path) -> None:
    (root / "src" / "boxoffice" / "behaviour.txt").write_text("never-ready")


def broken_code(root: Path) -> None:
    (root / "src" / "boxoffice" / "__main__.py").write_text("import no_such_module\n")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (failing_migration, 'migration 0002_broken.sql failed: relation "no_such_table" does not exist'),
        (broken_code, "its log ends: ModuleNotFoundError: No module named 'no_such_module'"),
        (never_ready, "the service was not ready 1 s after its start: /health/ready answered 503"),
    ],
)  # fmt: skip
def test_a_submission_that_does_not_start_is_graded_zero_with_the_reason(
    grader: Callable[..., Ended],
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    monkeypatch.setitem(World.start_service.__kwdefaults__, "ready_timeout_s", 1.0)
    root, run = tiny(), tmp_path / "run"
    spoil(root)
    ended = grader("run", root, "--out", run, "--fail-under", "0")

    assert (ended.code, ended.complaints) == (0, [])
    scorecard = scorecard_of(run)
    assert (scorecard.score, scorecard.complete) == (0.0, True)
    assert {result.verdict for result in scorecard.results} == {Verdict.BLOCKED}
    assert all(reason in (result.blocked_by or "") for result in scorecard.results)
    assert reason.partition(":")[0] in " ".join(ended.out.split())
    assert Traces(run).gone()
    assert grader("regrade", run, "--fail-under", "1").code == 1


@pytest.mark.integration
@pytest.mark.parametrize("behaviour", ["ignores-sigterm", "forks-daemon"])
def test_whatever_a_submission_does_to_stay_nothing_of_it_is_left(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path, behaviour: str
) -> None:
    run = tmp_path / "run"
    ended = grader("run", tiny(behaviour), "--out", run, "--only", "event-loop-slow-database")

    assert (ended.code, ended.complaints) == (0, [])
    assert scorecard_of(run).results[0].verdict is not Verdict.BLOCKED
    assert Traces(run).gone()


@pytest.mark.integration
def test_a_service_that_dies_midway_fails_and_the_report_says_why(
    grader: Callable[..., Ended], tiny: Tiny, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = grader("run", tiny("dies-midway"), "--out", run, "--only", "event-loop-slow-database")

    assert ended.code == 0
    [result] = scorecard_of(run).results
    assert (result.verdict, result.score) == (Verdict.FAILED, 0.0)
    assert "the service ended with status 4 while it was being driven" in ended.err
    assert Traces(run).gone()
