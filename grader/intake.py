"""Take a submission in: a folder becomes a clean, read-only tree with a digest. Nothing of it is executed."""

from __future__ import annotations

import hashlib
import os
import shutil
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


@dataclass(frozen=True)
class Intake:
    """A clean tree and the digest of its contents (SHA-256 over paths and bytes)."""

    source: Path
    digest: str
    files: int


def take_in(path: Path, destination: Path) -> Intake:
    """Copy the submission at ``path`` to ``destination``.

    Raises UsageError if there is nothing there, SubmissionRefused if it is not a gradable box office.
    """
    if not path.exists():
        raise UsageError(f"there is no submission at {path}: pass the folder that holds src/boxoffice")
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder: unpack it and pass the folder that holds src/boxoffice")
    if not (path / "src" / "boxoffice" / "__init__.py").is_file():
        raise UsageError(
            f"{path} is not a box office: there is no package at src/boxoffice; pass the submission's root folder"
        )
    files = _list_files(path)
    digest = hashlib.sha256()
    for relative in files:
        target = destination / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path / relative, target, follow_symlinks=False)
        content = target.read_bytes()
        digest.update(f"{relative.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
        target.chmod(0o444)
    _compare_frozen_migration(destination)
    return Intake(source=destination, digest=digest.hexdigest(), files=len(files))


def _list_files(root: Path) -> list[Path]:
    """Relative paths of the regular files, sorted. Raises SubmissionRefused at links, devices and excess."""
    found: list[Path] = []
    total = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
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
            if not str(relative).isprintable():
                raise SubmissionRefused(f"{str(relative)!r} has control characters in its name: rename it")
            total += status.st_size
            found.append(relative)
            if len(found) > MAX_FILES or total > MAX_BYTES:
                raise SubmissionRefused(
                    f"the submission has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB: remove what is not source"
                )
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
