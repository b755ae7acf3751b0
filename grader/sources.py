"""What the kit itself is made of, as a digest: a run is driven and judged by one version of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import devstack
import grader
from grader.judge import meta_of
from grader.scenarios.stage import Scenario

_SUFFIXES = frozenset({".py", ".sql", ".ini", ".toml"})
_BESIDES = frozenset({"validate", "_bundle", "__pycache__"})
"""Folders that no run reads."""


def digest(scenarios: Collection[Scenario], checks: Collection[str]) -> str:
    """Digest of all that driving ``scenarios`` and judging ``checks`` rests on; other scenarios and checks are left out."""
    used = {_file_of(scenario.drive.__module__) for scenario in scenarios} | set(_check_files(checks))
    found = hashlib.sha256()
    for package in (grader, devstack):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in _SUFFIXES and (path in used or _is_shared(path, root)):
                found.update(f"{path.relative_to(root)}\0".encode())
                found.update(path.read_bytes())
    return found.hexdigest()


def _is_shared(path: Path, root: Path) -> bool:
    return not _BESIDES & set(path.relative_to(root).parts) and not _is_one_of_many(path)


def _is_one_of_many(path: Path) -> bool:
    """A module of checks, or of a scenario: of those a run reads only what it needs."""
    if path.parent.name == "checks":
        return path.name.startswith("test_")
    name = f"grader.scenarios.{path.stem}"
    return path.parent.name == "scenarios" and hasattr(sys.modules.get(name), "SCENARIO")


def _check_files(checks: Collection[str]) -> Iterator[Path]:
    for name, module in list(sys.modules.items()):
        if name.startswith("grader.checks.test_"):
            metas = map(meta_of, vars(module).values())
            if any(meta is not None and meta.id in checks for meta in metas):
                yield Path(str(module.__file__))


def _file_of(module: str) -> Path:
    return Path(str(sys.modules[module].__file__))
