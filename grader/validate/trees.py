"""Trees and tables of subjects: copying a tree, patching it, reading a TOML file with its mistakes told in one line."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from devstack.paths import kit_root
from grader.errors import UsageError
from grader.intake import OUR_FOLDERS, SKIPPED_FOLDERS
from grader.text import one_line

Model = TypeVar("Model", bound=BaseModel)


def submissions_folder() -> Path:
    """Where the submissions are that the grader is measured with."""
    return kit_root() / "fixtures" / "submissions"


def read_table(path: Path, model: type[Model]) -> Model:
    """The TOML file at ``path`` as ``model``. Raises UsageError, naming file, field and reason."""
    place = f"{path.parent.name}/{path.name}"
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{place} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{place} is not TOML: {one_line(str(error))}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {field}: {first['msg']}") from error


def copy_tree(source: Path, destination: Path) -> None:
    """A copy of a submission's tree, without what tools leave behind."""
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns(*SKIPPED_FOLDERS, *OUR_FOLDERS))


def apply_patch(patch: Path, tree: Path, *, of: str) -> None:
    """Apply a unified diff to ``tree``. Raises UsageError, naming the subject ``of``, if it does not fit any more."""
    command = ["git", "apply", "--whitespace=nowarn", "-p1", str(patch.resolve())]
    # Away from any repository around: git would take paths relative to its top.
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GIT_CEILING_DIRECTORIES": str(tree.parent.resolve()),
    }
    done = subprocess.run(
        command,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = one_line(done.stderr or "git apply failed")
        raise UsageError(f"{of} does not fit any more: {reason}; make its patch anew")
