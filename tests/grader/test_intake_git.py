"""Repositories: fetched bare and read as blobs. Over ``file://`` here; the rules for addresses are tested apart."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.errors import ExitCode, SubmissionRefused, UsageError
from grader.intake import Intake, look_at, take_in
from grader.intake.git import NotFetched, read_repository
from grader.intake.tree import Tree

Tiny = Callable[..., Path]

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(root: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.defpath, "HOME": str(root.parent), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.test",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.test",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=root, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tiny: Tiny) -> Path:
    root = tiny()
    git(root, "init", "--quiet", "--initial-branch=main")
    # As the providers do: any commit may be asked for by its name.
    git(root, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit(root)
    return root


def commit(root: Path) -> str:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message", "work")
    return git(root, "rev-parse", "HEAD")


def fetch(root: Path, tmp_path: Path, name: str | None = None, *, protocols: str = "file") -> Intake:
    async def work() -> Intake:
        with Tree(tmp_path / "clean") as tree:
            await read_repository(f"file://{root}", name, tree, tmp_path / "scratch", protocols=protocols)
            return tree.finish(unwrap=False)

    try:
        return asyncio.run(work())
    finally:
        assert not (tmp_path / "scratch").exists()


def test_a_repository_comes_out_as_its_folder_would(repository: Path, tmp_path: Path) -> None:
    assert fetch(repository, tmp_path).digest == take_in(repository, tmp_path / "folder").digest


def test_a_commit_is_graded_as_it_was(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "NOTES.md").write_text("later")
    commit(repository)
    assert not (fetch(repository, tmp_path, first).source / "NOTES.md").exists()


def test_a_commit_that_is_not_there_is_said_to_be_missing(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no commit 0123456789"):
        fetch(repository, tmp_path, "0123456789" * 4)


def test_links_and_submodules_are_refused(repository: Path, tmp_path: Path, tiny: Tiny) -> None:
    os.symlink("/etc/passwd", repository / "keys")
    commit(repository)
    with pytest.raises(SubmissionRefused, match="keys is not a regular file"):
        fetch(repository, tmp_path)

    (repository / "keys").unlink()
    inner = repository / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    git(inner, "commit", "--quiet", "--allow-empty", "--message", "x")
    commit(repository)
    with pytest.raises(SubmissionRefused, match="inner is not a regular file"):
        fetch(repository, tmp_path)


def test_nothing_that_a_repository_configures_has_a_say(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (repository / ".gitattributes").write_text("* filter=trap text eol=crlf\nNOTES.md export-ignore\n")
    (repository / ".lfsconfig").write_text("[lfs]\n\turl = https://example.invalid\n")
    (repository / "NOTES.md").write_text("notes\n")
    hooks = repository / ".git" / "hooks"
    for hook in ("post-checkout", "reference-transaction", "post-upload-pack"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (hooks / hook).chmod(0o755)
    git(repository, "config", "filter.trap.smudge", f"touch {trap}")
    shutil.rmtree(hooks)
    commit(repository)
    assert (fetch(repository, tmp_path).source / "NOTES.md").read_bytes() == b"notes\n"
    assert not trap.exists()


def test_what_cannot_be_fetched_is_nobodys_fault(tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="could not be fetched") as failed:
        fetch(tmp_path / "nothing", tmp_path)
    assert failed.value.exit_code is ExitCode.UNDECIDED


def test_no_protocol_but_https_is_spoken(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="not allowed"):
        fetch(repository, tmp_path, protocols="https")


@pytest.mark.parametrize(
    "address",
    [
        "http://example.test/a", "ssh://example.test/a", "git@example.test:a/b", "file:///srv/a", "git://example.test/a",
        "ext::sh -c true", "HTTPS://user@example.test/a", "https://user:word@example.test/a", "https:///a",
        "https://-x.test/a", "https://example.test/a b", "https://example.test/a\n", "https://example.test/a?x=1",
        "https://example.test/a#main", "https://example.test", "https://example.test:port/a", "https://[::1/a",
    ],
)  # fmt: skip
def test_addresses_that_are_not_plain_https_are_refused_before_anything_happens(address: str) -> None:
    with pytest.raises(UsageError) as refused:
        look_at(address)
    assert "\n" not in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")


def test_an_address_gives_its_repository_a_short_name() -> None:
    assert look_at("https://example.test/team/box-office.git").name == "box-office"
    assert look_at("https://example.test/team/box-office.git", "A" * 40).commit == "a" * 40


@pytest.mark.parametrize("commit_name", ["main", "abc1234", "--upload-pack=x", "g" * 40, ""])
def test_a_commit_is_named_in_full(commit_name: str) -> None:
    with pytest.raises(UsageError, match="40 hexadecimal digits"):
        look_at("https://example.test/a", commit_name)


def test_a_commit_of_a_folder_makes_no_sense(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="--commit goes with the https:// address"):
        look_at(str(tiny()), "a" * 40)
