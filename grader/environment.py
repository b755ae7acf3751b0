"""The interpreter that runs a submission: its dependencies are read as data and served from the kit's lock."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from devstack.paths import cache_directory, kit_root
from grader.errors import EnvironmentFailed, SubmissionRefused

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")


@dataclass(frozen=True)
class ServiceEnvironment:
    """An interpreter with the locked packages, and the digest of the lock."""

    python: Path
    digest: str


def locked_versions(lock: Path) -> dict[str, Version]:
    """Names and versions pinned in a requirements lock."""
    found = (_PINNED.match(line) for line in lock.read_text().splitlines())
    return {canonicalize_name(match[1]): Version(match[2]) for match in found if match}


def check_dependencies(source: Path, lock: Path) -> None:
    """Refuse what the kit does not install: unknown packages, other versions, URLs, a broken pyproject.

    Raises SubmissionRefused with one line that names the dependency and what to do.
    """
    project = source / "pyproject.toml"
    if not project.is_file():
        raise SubmissionRefused("pyproject.toml is missing: restore it from the exercise")
    try:
        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SubmissionRefused(f"pyproject.toml cannot be read: {error}; correct it") from error
    dependencies = table.get("dependencies", []) if isinstance(table, dict) else None
    if not isinstance(dependencies, list):
        raise SubmissionRefused(
            "pyproject.toml: [project] dependencies must be a list of strings; correct it"
        )
    versions = locked_versions(lock)
    for text in dependencies:
        _check_dependency(text, versions)


def _check_dependency(text: object, versions: dict[str, Version]) -> None:
    try:
        requirement = Requirement(str(text))
    except InvalidRequirement as error:
        raise SubmissionRefused(f"pyproject.toml: {str(text)[:80]!r} is not a dependency: {error}") from error
    if requirement.url:
        raise SubmissionRefused(
            f"pyproject.toml: {requirement.name} comes from a URL: name a released version instead"
        )
    version = versions.get(canonicalize_name(requirement.name))
    if version is None:
        raise SubmissionRefused(
            f"pyproject.toml: {requirement.name} is not on the allow-list of the brief (ALLOWED.txt)"
        )
    if not requirement.specifier.contains(version, prereleases=True):
        raise SubmissionRefused(
            f"pyproject.toml: {requirement.name}{requirement.specifier} does not admit the kit's {version}: widen it"
        )


async def prepare(source: Path, progress: Callable[[str], None]) -> ServiceEnvironment:
    """The environment for ``source``, installed from the lock on first use, cached by the lock's digest.

    Raises SubmissionRefused (theirs) or EnvironmentFailed (ours: the installation failed).
    """
    lock = kit_root() / "requirements" / "service.txt"
    check_dependencies(source, lock)
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock.read_bytes() + tag.encode()).hexdigest()
    home = cache_directory() / "environments" / digest[:16]
    python = home / "bin" / "python"
    if not python.exists():
        progress("installing the service's packages (once)")
        await _install(lock, home)
    return ServiceEnvironment(python=python, digest=digest)


async def _install(lock: Path, home: Path) -> None:
    """Build aside, then rename: an interrupted installation leaves nothing that looks complete."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise EnvironmentFailed("uv is not installed beside the grader: run `make setup`")
    building = home.with_name(f"{home.name}.{os.getpid()}")
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        await _run(
            uv, "venv", "--quiet", "--no-project", "--relocatable", "--python", sys.executable, str(building)
        )
        await _run(
            uv, "pip", "install", "--quiet", "--python", str(building / "bin" / "python"), "--require-hashes",
            "--only-binary", ":all:", "--compile-bytecode", "-r", str(lock),
        )  # fmt: skip
        if not (home / "bin" / "python").exists():
            shutil.rmtree(home, ignore_errors=True)  # its interpreter has gone from this machine
        try:
            building.rename(home)
        except OSError:  # another run was faster
            if not (home / "bin" / "python").exists():
                raise
    except OSError as error:
        raise EnvironmentFailed(
            f"the service's packages could not be installed in {home.parent}: {error.strerror}; make room there"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = output.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        raise EnvironmentFailed(
            f"installing the service's packages failed: {lines[-1]} (is the package index reachable?)"
        )
