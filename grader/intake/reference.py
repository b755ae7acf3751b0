"""What was handed in, by its name: a folder, an archive or the address of a repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from grader.errors import UsageError
from grader.intake.tree import PACKAGE
from grader.text import one_line

Kind = Literal["folder", "zip", "tar", "git"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|:)|[^/\s]+@[^/\s]+:")
"""A scheme, git's ``transport::address``, or ``user@host:path``."""

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.IGNORECASE)
_SUFFIXES: dict[str, Kind] = {".zip": "zip", ".tar.gz": "tar", ".tgz": "tar"}
_ODD = re.compile(r"[^\w.-]+")
_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class Reference:
    """A submission that nobody has opened yet. ``where``: a path or an address. ``commit``: of a repository."""

    kind: Kind
    where: str
    commit: str | None = None

    @property
    def name(self) -> str:
        """A short name of letters, digits, ``.``, ``_`` and ``-``."""
        last = (
            Path(self.where).resolve().name if self.kind != "git" else urlsplit(self.where).path.rstrip("/")
        )
        last = last.rpartition("/")[2]
        for suffix in (*_SUFFIXES, ".git"):
            if self.kind != "folder" and last.lower().endswith(suffix):
                last = last[: -len(suffix)]
        return _ODD.sub("-", last)[:_NAME_CHARACTERS].strip("-.") or "submission"


def look_at(what: str, commit: str | None = None) -> Reference:
    """What ``what`` is. Raises UsageError, before anything is made for it, if it cannot be handed in."""
    if _ADDRESS.match(what):
        return _repository(what, commit)
    if commit is not None:
        raise UsageError("--commit goes with the https:// address of a repository only", hint="drop it")
    path = Path(what)
    shown = one_line(what, 300)
    try:
        if not path.exists():
            raise UsageError(
                f"there is no submission at {shown}: pass the folder that holds src/boxoffice, an archive of it, "
                "or the https:// address of its repository"
            )
        if path.is_dir():
            return _folder(path, shown)
        kind = next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
        if kind is None or not path.is_file():
            raise UsageError(
                f"{shown} is neither a folder nor a .zip or .tar.gz archive: pack it as one of them"
            )
    except OSError as error:
        raise UsageError(f"{shown} cannot be looked at: {error.strerror}") from error
    return Reference(kind, what)


def _folder(path: Path, shown: str) -> Reference:
    if not (path / PACKAGE).is_file():
        raise UsageError(
            f"{shown} is not a box office: there is no package at src/boxoffice; pass the submission's root folder"
        )
    return Reference("folder", str(path))


def _repository(address: str, commit: str | None) -> Reference:
    shown = one_line(address, 200)
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - it is parsed when it is asked for
    except ValueError as error:
        raise UsageError(f"{shown} is no address: {error}") from error
    if parts.scheme != "https":
        raise UsageError(f"{shown} is no https:// address: repositories are fetched by https:// only")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the address holds a user name or a password: clone the repository yourself, and pass the folder"
        )
    if not parts.hostname or parts.hostname.startswith("-") or not address.isprintable() or " " in address:
        raise UsageError(f"{shown} is no address of a repository")
    if parts.query or parts.fragment or not parts.path.strip("/"):
        raise UsageError(
            f"{shown} is no address of a repository: pass it as for git clone, and --commit apart"
        )
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise UsageError(f"{one_line(commit, 80)!r} is no commit: pass its full name, 40 hexadecimal digits")
    return Reference("git", address, commit.lower() if commit else None)
