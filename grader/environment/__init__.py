"""The interpreter that runs a submission: its dependencies are read as data and installed from hashed wheels.

A submission declares names, extras and versions in its ``pyproject.toml``; nothing else of it has a say in what is
installed, and nothing of it, nor of a package, is executed. What the kit's lock holds is served from one environment
that is built once per machine and needs no network after that. What it does not hold (packages permitted with
``--allow``, further extras) is resolved with the kit's versions as constraints to a lock with hashes, and that into an
environment of its own.

::

    declared.py     pyproject.toml → requirements, or a refusal
    locks.py        hashed lock files: reading, merging
    extras.py       whether an environment has all that an extra asks for
    resolving.py    additional requirements → a lock
    installing.py   a lock → an environment
    tools.py        running uv: cleaned environment, limits, an empty folder
    isolation.py    bubblewrap around it, where it works

Cached below the kit's cache: ``environments/<key>/`` and ``locks/<key>.txt``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from packaging.utils import canonicalize_name

from devstack.paths import cache_directory, kit_root
from grader.environment.declared import check_dependencies
from grader.environment.extras import uncovered
from grader.environment.installing import provide
from grader.environment.locks import installable_versions, locked_versions
from grader.environment.resolving import resolve

__all__ = ["ServiceEnvironment", "check_dependencies", "locked_versions", "prepare"]

_LAYOUT = "2: files are copied and read-only"
"""Changes whenever environments are built in another way, so that older ones are not taken."""


@dataclass(frozen=True)
class ServiceEnvironment:
    """An interpreter with locked packages.

    ``digest``: SHA-256 of the lock and the Python version; ``home``: the folder of the environment, readable for every
    account of the machine that can reach it; ``packages``: canonical names and versions.
    """

    python: Path
    digest: str
    home: Path
    packages: Mapping[str, str] = field(hash=False)


async def prepare(
    source: Path, progress: Callable[[str], None], *, allowed: Sequence[str] = ()
) -> ServiceEnvironment:
    """The environment for ``source``, installed on first use and cached by the digest of its lock.

    ``allowed``: names of packages that are permitted besides the kit's; what they depend on is permitted with them.
    ``progress`` is told, once each, what takes long. The first resolution on a machine is kept: later runs get the
    same versions.

    Raises UsageError (a name in ``allowed`` is none), SubmissionRefused (theirs) or EnvironmentFailed (ours: uv is
    missing, the index cannot be reached, the disk is full).
    """
    lock = kit_root() / "requirements" / "service.txt"
    wanted = check_dependencies(source, lock, allowed=allowed)
    kit_text = lock.read_text()
    kit = await _environment(kit_text, progress)
    versions = locked_versions(lock)
    additional = [
        requirement
        for requirement in wanted
        if canonicalize_name(requirement.name) not in versions or uncovered(requirement, kit.home)
    ]
    if not additional:
        return kit
    return await _environment(await resolve(additional, kit_text, progress), progress)


async def _environment(lock_text: str, progress: Callable[[str], None]) -> ServiceEnvironment:
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock_text.encode() + tag.encode()).hexdigest()
    key = hashlib.sha256(f"{digest} {_LAYOUT}".encode()).hexdigest()[:16]
    home = cache_directory() / "environments" / key
    await provide(lock_text, home, progress)
    packages = {name: str(version) for name, version in installable_versions(lock_text).items()}
    return ServiceEnvironment(home / "bin" / "python", digest, home, MappingProxyType(packages))
