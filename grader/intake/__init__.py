"""Take a submission in: whatever was handed in becomes a clean, read-only tree with a digest.

Nothing of it is executed. ::

    reference.py   what was handed in: a folder, a .zip, a .tar.gz, an https:// address
    folders.py     ┐
    archives.py    ├ its files, one by one
    git.py         ┘
    tree.py        which names and how much of it; writing it
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from grader.intake.archives import read_tar_gz, read_zip
from grader.intake.folders import read_folder
from grader.intake.git import read_repository
from grader.intake.reference import Reference, look_at
from grader.intake.tree import (
    FROZEN_MIGRATION,
    MAX_BYTES,
    MAX_FILES,
    OUR_FOLDERS,
    SKIPPED_FOLDERS,
    Intake,
    Tree,
)

__all__ = [
    "FROZEN_MIGRATION",
    "MAX_BYTES",
    "MAX_FILES",
    "OUR_FOLDERS",
    "SKIPPED_FOLDERS",
    "Intake",
    "Reference",
    "look_at",
    "take_in",
    "take_in_reference",
]


def take_in(path: Path, destination: Path) -> Intake:
    """Copy the submission at ``path``, a folder or an archive, to ``destination``, which must not exist.

    Raises UsageError if there is nothing there, SubmissionRefused if it is not a gradable box office.
    """
    return _take_in(look_at(str(path)), destination)


async def take_in_reference(reference: Reference, destination: Path, scratch: Path) -> Intake:
    """Bring what ``reference`` names to ``destination``, which must not exist.

    ``scratch``: a folder that may be made, and is removed. Raises SubmissionRefused, NotFetched, UsageError.
    """
    if reference.kind != "git":
        return await asyncio.to_thread(_take_in, reference, destination)
    with Tree(destination) as tree:
        await read_repository(reference.where, reference.commit, tree, scratch)
        return tree.finish(unwrap=False)


def _take_in(reference: Reference, destination: Path) -> Intake:
    path = Path(reference.where)
    with Tree(destination) as tree:
        match reference.kind:
            case "zip":
                read_zip(path, tree)
            case "tar":
                read_tar_gz(path, tree)
            case _:
                read_folder(path, tree)
        return tree.finish(unwrap=reference.kind != "folder")
