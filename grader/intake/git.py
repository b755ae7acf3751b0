"""A repository behind an ``https://`` address: fetched bare, read as blobs, never checked out.

Nothing of the repository has a say: no hook, filter, attribute, submodule, template or configuration of it is ever
looked at, and git's own configuration on this machine counts nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from devstack.placement import die_with_parent
from grader.errors import GraderError, SubmissionRefused, UsageError
from grader.intake import tree as limits
from grader.intake.tree import Tree, is_skipped, not_regular, parts_of, too_large
from grader.text import one_line

TIME_LIMIT_S = 180.0
REPOSITORY_BYTES = 256 << 20
"""Of what one commit takes packed; it unpacks to 64 MiB at most."""

MEMORY_BYTES = 2 << 30

_PASSED = (
    "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
)  # fmt: skip
"""Of the caller's environment: how the network is reached."""

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "http.followRedirects=initial",
    "maintenance.auto=false",
    "pack.threads=1",
    "protocol.version=2",
)


class NotFetched(GraderError):
    """The repository could not be fetched; whose fault that is, is not known."""


async def read_repository(
    address: str, commit: str | None, tree: Tree, scratch: Path, *, protocols: str = "https"
) -> None:
    """Fetch one commit (``None``: what the repository shows first) and copy its files.

    ``scratch``: a folder that may be made, and is removed. ``protocols``: those that git may speak. Raises NotFetched,
    SubmissionRefused, UsageError if there is no such commit.
    """
    try:
        scratch.mkdir(parents=True)
        git = _Git(scratch, protocols)
        await git.run("init", "--quiet", "--bare", "--template=", str(git.repository))
        await _fetch(git, address, commit)
        listing = await git.run("ls-tree", "-r", "-z", "--long", "--full-tree", "FETCH_HEAD")
        blobs = list(_wanted(listing))
        names = b"".join(f"{name}\n".encode() for name, _, _ in blobs)
        await git.run("cat-file", "--batch", given=names)
        _copy(blobs, git.output, tree)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _fetch(git: _Git, address: str, commit: str | None) -> None:
    try:
        await git.run("fetch", "--quiet", "--depth=1", "--no-tags", "--", address, commit or "HEAD")
    except _Failed as error:
        if commit is not None and ("not our ref" in error.said or "couldn't find remote ref" in error.said):
            raise UsageError(f"there is no commit {commit} at {one_line(address, 200)}") from error
        raise NotFetched(
            f"{one_line(address, 200)} could not be fetched ({error.told})",
            hint="is the address right, public and reachable from here?",
        ) from error


def _wanted(listing: bytes) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Object name, size and path of each file. Raises SubmissionRefused at links, submodules, odd names, excess."""
    total = count = 0
    for line in listing.split(b"\0"):
        if not line:
            continue
        head, _, raw = line.partition(b"\t")
        mode, kind, name, size = head.decode().split()
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            raise SubmissionRefused(f"{raw[:100]!r} is no name in UTF-8: rename it") from None
        parts = parts_of(path)
        if is_skipped(parts):
            continue
        if kind != "blob" or not stat.S_ISREG(int(mode, 8)):
            raise not_regular(path)
        total, count = total + int(size), count + 1
        if total > limits.MAX_BYTES or count > limits.MAX_FILES:
            raise too_large()
        yield name, int(size), parts


def _copy(blobs: Sequence[tuple[str, int, tuple[str, ...]]], output: Path, tree: Tree) -> None:
    with output.open("rb") as file:
        for name, size, parts in blobs:
            if file.readline(200) != f"{name} blob {size}\n".encode():
                raise SubmissionRefused("the repository does not hold what it lists: push it anew")
            tree.add_file(parts, [file.read(size)])
            file.read(1)


class _Failed(Exception):
    """git ended with an error."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    @property
    def told(self) -> str:
        """Its last line."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return one_line(lines[-1], 200) if lines else "no reason given"


class _Git:
    """git, in a folder that has nothing of anybody, with the settings above and with limits."""

    def __init__(self, scratch: Path, protocols: str) -> None:
        program = shutil.which("git")
        if program is None:
            raise NotFetched(
                "git is not installed", hint="apt install git, or hand in a folder or an archive"
            )
        self.repository, self.output = scratch / "repository", scratch / "output"
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        self._command = [program, *settings]
        self._scratch = scratch
        self._environment = {
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            "PATH": os.defpath,
            "HOME": str(scratch),
            "LC_ALL": "C.UTF-8",
            "GIT_ALLOW_PROTOCOL": protocols,
            "GIT_ASKPASS": "/bin/false",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(scratch.parent),
            "GIT_DIR": str(self.repository),
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "SSH_ASKPASS": "/bin/false",
        }

    async def run(self, *arguments: str, given: bytes = b"") -> bytes:
        """What git writes, if it is small; all of it is in ``output``. Raises _Failed, NotFetched at the time limit."""
        given_path, errors = self._scratch / "input", self._scratch / "errors"
        given_path.write_bytes(given)
        with given_path.open("rb") as stdin, self.output.open("wb") as stdout, errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *self._command, *arguments,
                cwd=self._scratch, env=self._environment, stdin=stdin, stdout=stdout, stderr=stderr,
                start_new_session=True, preexec_fn=_limited(),
            )  # fmt: skip
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                status = await process.wait()
        except TimeoutError as error:
            raise NotFetched(
                f"the repository could not be fetched in {TIME_LIMIT_S:.0f} s", hint="try again"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if status:
            with errors.open("rb") as file:
                raise _Failed(file.read(20_000).decode("utf-8", "replace"))
        with self.output.open("rb") as file:
            return file.read(limits.MAX_FILES * 1000)


def _limited() -> Callable[[], None]:
    wanted = {
        resource.RLIMIT_FSIZE: REPOSITORY_BYTES,
        resource.RLIMIT_CPU: int(TIME_LIMIT_S),
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
    }

    grader = os.getpid()

    def prepare_process() -> None:
        die_with_parent(grader)
        os.umask(0o077)
        for what, limit in wanted.items():
            hard = resource.getrlimit(what)[1]
            allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(what, (allowed, allowed))

    return prepare_process
