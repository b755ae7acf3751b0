"""Requirements that the kit's lock does not hold → a lock with hashes that holds them too."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devstack.paths import cache_directory
from grader.environment.locks import extended, read_lock
from grader.environment.tools import Completed, Workplace, workplace
from grader.errors import EnvironmentFailed, SubmissionRefused
from grader.paths import write_text
from grader.text import one_line

_NO_SOLUTION = "No solution found when resolving dependencies"
_THEIRS = (_NO_SOLUTION, "Couldn't parse requirement")
"""What uv says if the requirements are to blame, not the index. The second: numbers beyond its versions' 64 bits."""


async def resolve(additional: Iterable[Requirement], kit: str, progress: Callable[[str], None]) -> str:
    """The lock ``kit`` (text) with ``additional`` and all that it depends on, at versions that fit the kit's.

    Cached by the digest of both and of the Python and platform: the index is asked once.

    Raises SubmissionRefused if no versions fit, or there are no wheels of them; EnvironmentFailed if the index cannot
    be reached.
    """
    wanted = "".join(sorted({f"{_written(requirement)}\n" for requirement in additional}))
    tag = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
    key = hashlib.sha256(f"{tag}\n{wanted}\n{kit}".encode()).hexdigest()[:16]
    path = cache_directory() / "locks" / f"{key}.txt"
    async with workplace(path.parent, progress) as place:
        if not path.exists():
            progress("resolving packages that the kit does not have (once)")
            write_text(path, await _compiled(place, wanted, kit))
        return path.read_text()


def _written(requirement: Requirement) -> str:
    """As a line of ours: name, extras, versions; markers were evaluated. The order of its parts is always the same."""
    extras = ",".join(sorted(canonicalize_name(extra) for extra in requirement.extras))
    name = canonicalize_name(requirement.name)
    return f"{name}[{extras}]{requirement.specifier}" if extras else f"{name}{requirement.specifier}"


async def _compiled(place: Workplace, wanted: str, kit: str) -> str:
    requirements, constraints, output = (
        place.scratch / name for name in ("requirements.in", "constraints.txt", "resolved.txt")
    )
    requirements.write_text(wanted)
    constraints.write_text(kit)
    completed = await place.uv(
        "pip", "compile", "--quiet", "--python", sys.executable, "--only-binary", ":all:", "--generate-hashes",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--constraint", str(constraints),
        "--output-file", str(output), str(requirements),
    )  # fmt: skip
    if completed.status:
        raise _failure(completed, wanted)
    try:
        resolved = output.read_text()
        for _ in read_lock(resolved):
            pass
        return extended(kit, resolved)
    except (OSError, ValueError) as error:
        raise EnvironmentFailed(
            f"the index's answer cannot be used: {one_line(str(error))}; do not permit this package"
        ) from error


def _failure(completed: Completed, wanted: str) -> Exception:
    if any(said in completed.output for said in _THEIRS):
        names = ", ".join(wanted.split())
        reason = completed.complaint.removeprefix(f"{_NO_SOLUTION}: ")
        return SubmissionRefused(
            f"pyproject.toml: {one_line(names, 100)} cannot be had beside the kit's packages: {reason}"
        )
    return EnvironmentFailed(
        f"resolving the service's packages failed: {completed.complaint}"
        " (is the package index reachable? UV_DEFAULT_INDEX names another one)"
    )
