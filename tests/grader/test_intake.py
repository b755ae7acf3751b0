from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.errors import ExitCode, SubmissionRefused, UsageError
from grader.intake import FROZEN_MIGRATION, take_in
from grader.intake import tree as limits

Tiny = Callable[..., Path]


def test_a_submission_becomes_a_read_only_tree_with_a_digest(tiny: Tiny, tmp_path: Path) -> None:
    root = tiny()
    (root / "NOTES.md").write_text("notes\r\n")
    taken = take_in(root, tmp_path / "clean")

    found = {path.relative_to(taken.source).as_posix() for path in taken.source.rglob("*") if path.is_file()}
    assert {"NOTES.md", "pyproject.toml", "src/boxoffice/__main__.py", "migrations/0001_initial.sql"} <= found
    assert taken.files == len(found)
    assert (taken.source / "NOTES.md").read_bytes() == b"notes\r\n"
    assert not any(path.stat().st_mode & 0o222 for path in taken.source.rglob("*") if path.is_file())
    assert taken.digest == take_in(root, tmp_path / "again").digest


@pytest.mark.parametrize("change", ["content", "name"])
def test_the_digest_tells_content_and_names_apart(tiny: Tiny, tmp_path: Path, change: str) -> None:
    root = tiny()
    before = take_in(root, tmp_path / "before").digest
    notes = root / "pyproject.toml"
    if change == "content":
        notes.write_text(notes.read_text() + "#")
    else:
        notes.rename(root / "pyproject.tomb")
    assert take_in(root, tmp_path / "after").digest != before


def test_what_is_no_source_is_left_behind(tiny: Tiny, tmp_path: Path) -> None:
    root = tiny()
    for folder in (".git", ".venv/bin", "src/boxoffice/__pycache__", "runs/old"):
        (root / folder).mkdir(parents=True)
        (root / folder / "junk").write_text("junk")
    os.symlink("/usr/bin/python3", root / ".venv" / "bin" / "python")
    (root / "src" / "boxoffice" / "runs").mkdir()
    (root / "src" / "boxoffice" / "runs" / "__init__.py").write_text("")
    taken = take_in(root, tmp_path / "clean")

    assert not list(taken.source.rglob("junk"))
    assert (taken.source / "src" / "boxoffice" / "runs" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "there is no submission"),
        ("file.txt", "is neither a folder nor a .zip or .tar.gz archive"),
        ("empty", "is not a box office: there is no package at src/boxoffice"),
    ],
)
def test_what_is_no_box_office_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=reason) as refused:
        take_in(tmp_path / path, tmp_path / "clean")
    assert refused.value.exit_code is ExitCode.USAGE
    assert not (tmp_path / "clean").exists()


def link(root: Path) -> None:
    os.symlink("/etc/passwd", root / "notes")


def linked_folder(root: Path) -> None:
    os.symlink("/etc", root / "etc")


def pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def control_characters(root: Path) -> None:
    (root / "a\x1b[2Jb").touch()


def changed_migration(root: Path) -> None:
    file = root / "migrations" / FROZEN_MIGRATION
    file.write_text(file.read_text() + "\nDROP TABLE orders;\n")


def missing_migration(root: Path) -> None:
    (root / "migrations" / FROZEN_MIGRATION).unlink()


def many_files(root: Path) -> None:
    for number in range(20):
        (root / f"{number}").touch()


def large_file(root: Path) -> None:
    with open(root / "large", "wb") as file:
        file.truncate(200_000)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (link, "notes is not a regular file: replace links"),
        (linked_folder, "etc is not a regular file: replace links"),
        (pipe, "pipe is not a regular file"),
        (control_characters, r"'a\\x1b\[2Jb' has control characters in its name: rename it"),
        (changed_migration, "0001_initial.sql was changed, but it is frozen: restore it"),
        (missing_migration, "0001_initial.sql is missing: restore it from the exercise"),
        (many_files, "more than 20 files or 0 MiB: remove what is not source"),
        (large_file, "more than 20 files or 0 MiB: remove what is not source"),
    ],
)
def test_what_cannot_be_graded_is_refused_with_the_next_step(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.setattr(limits, "MAX_FILES", 20)
    monkeypatch.setattr(limits, "MAX_BYTES", 100_000)
    root = tiny()
    spoil(root)
    with pytest.raises(SubmissionRefused, match=reason) as refused:
        take_in(root, tmp_path / "clean")
    assert "\n" not in str(refused.value)


def test_line_ends_of_windows_do_not_change_the_frozen_migration(tiny: Tiny, tmp_path: Path) -> None:
    root = tiny()
    file = root / "migrations" / FROZEN_MIGRATION
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert take_in(root, tmp_path / "clean").files > 3


def test_a_file_exchanged_for_a_link_while_it_is_taken_in_is_not_followed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny()
    opened = os.open

    def exchanging(path: str, *arguments: int, **options: int) -> int:
        if path == "pyproject.toml" and not (root / path).is_symlink():
            (root / path).unlink()
            os.symlink("/etc/passwd", root / path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(SubmissionRefused, match=r"pyproject.toml cannot be read .*: correct its permissions"):
        take_in(root, tmp_path / "clean")
    assert not list(tmp_path.glob("*clean*"))


def test_a_folder_exchanged_for_a_link_while_it_is_taken_in_is_not_followed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, secrets = tiny(), tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key.txt").write_text("private")
    opened = os.open

    def exchanging(path: str, *arguments: int, **options: int) -> int:
        if path == "migrations" and not (root / path).is_symlink():
            shutil.rmtree(root / path)
            os.symlink(secrets, root / path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(SubmissionRefused):
        take_in(root, tmp_path / "clean")
    assert not list(tmp_path.glob("*clean*"))


def test_a_file_that_grows_while_it_is_taken_in_is_refused(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny()
    opened = os.open

    def growing(path: str, *arguments: int, **options: int) -> int:
        if path == "pyproject.toml":
            large_file(root)
            (root / "large").replace(root / path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", growing)
    monkeypatch.setattr(limits, "MAX_BYTES", 100_000)
    with pytest.raises(SubmissionRefused, match="remove what is not source"):
        take_in(root, tmp_path / "clean")


def test_a_folder_that_cannot_be_listed_is_refused(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny()
    opened = os.open

    def closed(path: str, *arguments: int, **options: int) -> int:
        if path == "migrations":
            raise PermissionError(13, "Permission denied", "migrations")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(SubmissionRefused, match="migrations cannot be read"):
        take_in(root, tmp_path / "clean")


def test_nothing_of_a_submission_is_executed_when_it_is_taken_in(tiny: Tiny, tmp_path: Path) -> None:
    root = tiny()
    (root / "src" / "boxoffice" / "__init__.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    (root / "conftest.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    take_in(root, tmp_path / "clean")
    assert not (tmp_path / "trap").exists()
