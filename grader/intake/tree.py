"""A clean tree: what of a submission is written, under which names, and how much of it.

Folders, archives and repositories all come through here, file by file. Nothing is written outside of a new folder
beside the destination, which gets its name when everything has been looked at; after a refusal nothing is left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from devstack.paths import kit_root
from grader.errors import SubmissionRefused
from grader.text import one_line

FROZEN_MIGRATION = "0001_initial.sql"
PACKAGE = PurePosixPath("src/boxoffice/__init__.py")

MAX_FILES = 5_000
MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 20
"""Folders around a file; the exercise has 4."""

MAX_PATH_BYTES = 500
MAX_NAME_BYTES = 200
"""Any file system takes them, below any run directory."""

SKIPPED_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".venv",
        "venv",
        "node_modules",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        "__MACOSX",
    }
)
SKIPPED_FILES = frozenset({".DS_Store"})
OUR_FOLDERS = frozenset({"runs"})
"""At the root only: where runs of the grader go that were started inside the submission."""

_TOLD = 100


@dataclass(frozen=True)
class Intake:
    """A clean tree and the digest of its contents (SHA-256 over paths and bytes)."""

    source: Path
    digest: str
    files: int


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a relative name; none for the root itself. Raises SubmissionRefused for one that we do not write."""
    told = repr(one_line(name, _TOLD))
    if not name.isprintable():
        raise SubmissionRefused(f"{name[:_TOLD]!r} has control characters in its name: rename it")
    if "\\" in name:
        raise SubmissionRefused(
            f"{told} has a backslash in its name: rename it, or pack it with another program"
        )
    if name.startswith("/"):
        raise SubmissionRefused(f"{told} is an absolute name: pack the folder, not its path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise SubmissionRefused(f"{told} leads out of the submission: remove it")
    sizes = [len(part.encode()) for part in parts]
    if (
        len(parts) > MAX_DEPTH + 1
        or sum(sizes) + len(sizes) > MAX_PATH_BYTES
        or max(sizes, default=0) > MAX_NAME_BYTES
    ):
        raise SubmissionRefused(
            f"{told} is too deep or too long: names may have {MAX_NAME_BYTES} bytes, paths {MAX_PATH_BYTES} "
            f"and {MAX_DEPTH} folders"
        )
    return parts


def is_skipped(parts: tuple[str, ...], *, folder: bool = False) -> bool:
    """Whether what has this name is left behind: repositories, caches, environments, a desktop's litter."""
    folders = parts if folder else parts[:-1]
    if any(part in SKIPPED_FOLDERS or part.casefold() == ".git" for part in folders):
        return True
    # A work tree's or a submodule's .git is a file.
    return (
        not folder
        and bool(parts)
        and (parts[-1] in SKIPPED_FILES or parts[-1].startswith("._") or parts[-1].casefold() == ".git")
    )


def not_regular(name: str) -> SubmissionRefused:
    """The refusal of a link, a device, a pipe, a socket."""
    return SubmissionRefused(
        f"{one_line(name, _TOLD)} is not a regular file: replace links and devices by plain files"
    )


def unreadable(name: str, reason: str) -> SubmissionRefused:
    """The refusal of what cannot be read."""
    return SubmissionRefused(
        f"{one_line(name, _TOLD)} cannot be read ({reason}): correct its permissions or remove it"
    )


class Tree:
    """A tree that is being written. A context manager; what was not finished is removed."""

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._root = destination.with_name(f".{destination.name}.taking-in")
        self._names: dict[
            str, tuple[str, bool]
        ] = {}  # as the most forgiving file system has it: as given, is a file
        self._files = 0
        self._entries = 0
        self._bytes = 0

    def __enter__(self) -> Tree:
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def add_folder(self, parts: tuple[str, ...]) -> None:
        """Take note of a folder. Raises SubmissionRefused."""
        self._count_entry()
        for depth in range(1, len(parts) + 1):
            self._claim("/".join(parts[:depth]), file=False)

    def add_file(self, parts: tuple[str, ...], pieces: Iterable[bytes]) -> int:
        """Write a file; the bytes written. Raises SubmissionRefused, and what ``pieces`` raises."""
        self._count_entry()
        if not parts:
            raise not_regular(".")
        for depth in range(1, len(parts)):
            self._claim("/".join(parts[:depth]), file=False)
        self._claim("/".join(parts), file=True)
        self._files += 1
        if self._files > MAX_FILES:
            raise too_large()
        target = self._root.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        before = self._bytes
        # Never through something that is there already.
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            for piece in pieces:
                self._bytes += len(piece)
                if self._bytes > MAX_BYTES:
                    raise too_large()
                file.write(piece)
        target.chmod(0o444)
        return self._bytes - before

    def finish(self, *, unwrap: bool) -> Intake:
        """Look at all of it and give it its place. ``unwrap``: a single folder around everything is taken off.

        Raises SubmissionRefused if it is not a gradable box office.
        """
        root = self._root
        inside = list(root.iterdir())
        if unwrap and not (root / PACKAGE).is_file() and len(inside) == 1 and inside[0].is_dir():
            root = inside[0]
        if not (root / PACKAGE).is_file():
            raise SubmissionRefused(
                "this is no box office: there is no package at src/boxoffice; hand in the submission's root folder"
            )
        for name in OUR_FOLDERS:
            shutil.rmtree(root / name, ignore_errors=True)
        _compare_frozen_migration(root)
        files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        digest = hashlib.sha256()
        for relative in files:
            content = (root / relative).read_bytes()
            digest.update(f"{relative.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        root.rename(self._destination)
        return Intake(source=self._destination, digest=digest.hexdigest(), files=len(files))

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > 2 * MAX_FILES:
            raise too_large()

    def _claim(self, name: str, *, file: bool) -> None:
        """Refuse a name of which some file systems or readers would make the same as another's."""
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        known, known_as_file = self._names.setdefault(key, (name, file))
        again = file and known_as_file and self._root.joinpath(name).exists()
        if known != name or known_as_file != file or again:
            raise SubmissionRefused(
                f"{one_line(name, _TOLD)!r} and {one_line(known, _TOLD)!r} have the same name on some machines: "
                "rename one of them"
            )


def too_large() -> SubmissionRefused:
    """The refusal of too much."""
    return SubmissionRefused(
        f"the submission has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB: remove what is not source"
    )


def _compare_frozen_migration(source: Path) -> None:
    relative = Path("migrations") / FROZEN_MIGRATION
    ours = kit_root() / "exercise" / relative
    theirs = source / relative
    if not theirs.is_file():
        raise SubmissionRefused(f"{relative} is missing: restore it from the exercise")
    if theirs.read_bytes().replace(b"\r\n", b"\n") != ours.read_bytes():
        raise SubmissionRefused(
            f"{relative} was changed, but it is frozen: restore it and put changes into 0002_….sql"
        )
