"""Take a submission in: a folder becomes a clean, read-only tree with a digest. Nothing of it is executed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from devstack.paths import kit_root
from grader.errors import SubmissionRefused, UsageError

FROZEN_MIGRATION = "0001_initial.sql"
MAX_FILES = 5_000
MAX_BYTES = 64 * 1024 * 1024
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
    }
)
OUR_FOLDERS = frozenset({"runs"})
"""At the root only: where runs of the grader go that were started inside the submission."""


@dataclass(frozen=True)
class Intake:
    """A clean tree and the digest of its contents (SHA-256 over paths and bytes)."""

    source: Path
    digest: str
    files: int


def require_box_office(path: Path) -> None:
    """Look at ``path`` before anything is made for it. Raises UsageError unless it is a folder with the package."""
    if not path.exists():
        raise UsageError(f"there is no submission at {path}: pass the folder that holds src/boxoffice")
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder: unpack it and pass the folder that holds src/boxoffice")
    if not (path / "src" / "boxoffice" / "__init__.py").is_file():
        raise UsageError(
            f"{path} is not a box office: there is no package at src/boxoffice; pass the submission's root folder"
        )


def take_in(path: Path, destination: Path) -> Intake:
    """Copy the submission at ``path`` to ``destination``.

    Raises UsageError if there is nothing there, SubmissionRefused if it is not a gradable box office.
    """
    require_box_office(path)
    files = _list_files(path)
    digest = hashlib.sha256()
    for relative in files:
        target = destination / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        content = _read(path / relative, relative)
        target.write_bytes(content)
        target.chmod(0o444)
        digest.update(f"{relative.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    _compare_frozen_migration(destination)
    return Intake(source=destination, digest=digest.hexdigest(), files=len(files))


def _read(path: Path, relative: Path) -> bytes:
    """The bytes of a file that may be exchanged for a link or grow while we look. Raises SubmissionRefused."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(relative, error) from error
    if len(content) > MAX_BYTES:
        raise _too_large()
    return content


def _too_large() -> SubmissionRefused:
    return SubmissionRefused(
        f"the submission has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB: remove what is not source"
    )


def _unreadable(path: Path, error: OSError) -> SubmissionRefused:
    return SubmissionRefused(
        f"{path} cannot be read ({error.strerror}): correct its permissions or remove it"
    )


def _list_files(root: Path) -> list[Path]:
    """Relative paths of the regular files, sorted. Raises SubmissionRefused at links, devices and excess."""
    found: list[Path] = []
    total = 0

    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename or root), error) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        skipped = SKIPPED_FOLDERS | OUR_FOLDERS if Path(folder) == root else SKIPPED_FOLDERS
        folders[:] = sorted(name for name in folders if name not in skipped)
        for name in [*names, *folders]:
            path = Path(folder, name)
            relative = path.relative_to(root)
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise SubmissionRefused(
                    f"{relative} is not a regular file: replace links and devices by plain files"
                )
            if not relative.as_posix().isprintable():
                raise SubmissionRefused(f"{str(relative)!r} has control characters in its name: rename it")
            total += status.st_size
            found.append(relative)
            if len(found) > MAX_FILES or total > MAX_BYTES:
                raise _too_large()
    return sorted(found)


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
