"""A folder of this machine, read so that nobody who changes it meanwhile can lead us elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from grader.intake import tree as limits
from grader.intake.tree import (
    OUR_FOLDERS,
    Tree,
    is_skipped,
    not_regular,
    parts_of,
    too_large,
    unreadable,
)

_PIECE = 1 << 20


def read_folder(root: Path, tree: Tree) -> None:
    """Copy the files below ``root``. Raises SubmissionRefused at links, devices, odd names and excess."""

    def refuse(error: OSError) -> None:
        raise unreadable(str(error.filename or root), error.strerror or "an error") from error

    # fwalk opens every folder relative to the one around it, and none through a link.
    for folder, folders, names, descriptor in os.fwalk(root, onerror=refuse):
        above = Path(folder).relative_to(root).parts
        folders[:] = sorted(
            name
            for name in folders
            if not is_skipped((*above, name), folder=True) and not (not above and name in OUR_FOLDERS)
        )
        for name in folders:
            parts = parts_of(_decoded("/".join((*above, name))))
            _require(name, descriptor, parts, folder=True)
            tree.add_folder(parts)
        for name in sorted(names):
            if is_skipped((*above, name)):
                continue
            parts = parts_of(_decoded("/".join((*above, name))))
            size = _require(name, descriptor, parts, folder=False)
            if size > limits.MAX_BYTES:
                raise too_large()
            tree.add_file(parts, _pieces(name, descriptor, parts))


def _decoded(name: str) -> str:
    """The name as text. Raises SubmissionRefused for bytes that are none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise not_regular(name.encode("utf-8", "backslashreplace").decode()) from None
    return name


def _require(name: str, parent: int, parts: tuple[str, ...], *, folder: bool) -> int:
    """The size of what has this name now. Raises SubmissionRefused unless it is a file, or a folder, itself."""
    shown = "/".join(parts)
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise unreadable(shown, error.strerror or "an error") from error
    wanted = stat.S_ISDIR if folder else stat.S_ISREG
    if not wanted(status.st_mode):
        raise not_regular(shown)
    return status.st_size


def _pieces(name: str, parent: int, parts: tuple[str, ...]) -> Iterator[bytes]:
    """The bytes of a file that may be exchanged for something else or grow while we look."""
    shown = "/".join(parts)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        raise unreadable(shown, error.strerror or "an error") from error
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise not_regular(shown)
        try:
            while piece := file.read(_PIECE):
                yield piece
        except OSError as error:
            raise unreadable(shown, error.strerror or "an error") from error
