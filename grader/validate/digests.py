"""Digests: what a recorded observation depends on, so that a change makes stale what it touches and nothing else.

*Driving* a scenario depends on that scenario's module, on every module that it and ``grader/driving.py`` import
(other scenarios only if imported), on all of ``fixtures/devstack`` but its command line, and on the packages that
services run on. The load depends on ``grader/load`` and the solution too, beside which it measures.
*Judging* a scenario's record depends on the modules of the checks that read it and on what they import.

Comments, docstrings and blank lines do not count: they change nothing that is observed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from devstack.paths import kit_root
from grader.checks import check_functions
from grader.intake import OUR_FOLDERS, SKIPPED_FOLDERS
from grader.scenarios import SCENARIOS
from grader.scenarios.stage import Scenario

LOAD = "load"
TESTS = "tests"
"""A subject's own tests are not driven: to mend one of them makes no evidence stale."""

_PACKAGES = ("grader", "devstack")
_LISTS = frozenset({"grader.scenarios", "grader.checks"})
"""Packages that import all of their modules to list them: importing one module must not drag in the others."""

_JUDGING = ("grader.judge", "grader.judge_plugin", "grader.verdicts", "grader.errors")
_NOT_DRIVING = frozenset({"cli.py", "__main__.py", "visible.py"})
_COUNTED_SUFFIXES = frozenset({".py", ".sql", ".ini", ".toml", ".txt"})


def scenario_digest(scenario: Scenario) -> str:
    """What driving ``scenario`` depends on, beside the submission and the seed."""
    module = scenario.drive.__module__
    files = {path for name in imported(module, "grader.driving") if (path := source_of(name))}
    files |= set(_devstack_files())
    files.add(kit_root() / "requirements" / "service.txt")
    if scenario.name == LOAD:
        files |= set(_files(_package_folder("grader") / "load"))
        solution = kit_root() / "solution"
        files |= {path for path in _files(solution) if not path.is_relative_to(solution / TESTS)}
    attributes = f"{scenario.name} {scenario.budget_s} {scenario.processes} {scenario.quiet}"
    return digest_of(files, attributes)


def checks_digest(scenario: str) -> str:
    """What judging the record of ``scenario`` depends on."""
    modules = {
        function.__module__ for meta, function in check_functions().values() if scenario in meta.requires
    }
    names = imported(*sorted(modules), *_JUDGING)
    return digest_of({path for name in names if (path := source_of(name))}, scenario)


def scenario_digests() -> dict[str, str]:
    """By name, of every scenario."""
    return {scenario.name: scenario_digest(scenario) for scenario in SCENARIOS}


def checks_digests() -> dict[str, str]:
    """By name of the scenario, of the checks that judge it."""
    return {scenario.name: checks_digest(scenario.name) for scenario in SCENARIOS}


def digest_of(files: Iterable[Path], *texts: str) -> str:
    """SHA-256 over the files (names below the kit's root, and what their content means) and ``texts``."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = _meaning_of_file(path)
        digest.update(f"{_told(path)}\0{len(content)}\0".encode())
        digest.update(content)
    for text in texts:
        digest.update(f"{text}\0".encode())
    return digest.hexdigest()


def imported(*modules: str) -> frozenset[str]:
    """The modules themselves and all of this kit's that they import, directly or through one another."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in _LISTS:
            continue
        found.add(name)
        waiting.extend(_direct_imports(name))
    return frozenset(found)


def meaning(source: str) -> str:
    """Python source without comments, docstrings and blank lines."""
    lines = source.splitlines()
    tree = ast.parse(source)
    dropped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                if _is_text(statement) and statement.lineno > getattr(node, "lineno", 0):
                    dropped.update(range(statement.lineno - 1, statement.end_lineno or statement.lineno))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = (line.rstrip() for number, line in enumerate(lines) if number not in dropped)
    return "\n".join(line for line in kept if line) + "\n"


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def source_of(module: str) -> Path | None:
    """The source file of one of this kit's modules; ``None``: there is no such module (a name inside one)."""
    if module.split(".")[0] not in _PACKAGES:
        return None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _direct_imports(module: str) -> tuple[str, ...]:
    path = source_of(module)
    if path is None:
        return ()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            # what is imported may be a module of the package
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(sorted(name for name in found if source_of(name) is not None))


@cache
def _meaning_of_file(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".py":
        return content
    return meaning(content.decode("utf-8")).encode()


def _devstack_files() -> Iterator[Path]:
    folder = _package_folder("devstack")
    for path in _files(folder):
        if not (path.parent == folder and path.name in _NOT_DRIVING):
            yield path


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        skipped = SKIPPED_FOLDERS.intersection(inner) or inner[0] in OUR_FOLDERS
        if path.suffix in _COUNTED_SUFFIXES and not skipped and path.is_file():
            yield path


def _package_folder(name: str) -> Path:
    path = source_of(name)
    assert path is not None, f"{name} is one of the kit's packages"
    return path.parent


def _told(path: Path) -> str:
    """The path as it is everywhere: below its package, or below the kit's root."""
    for name in _PACKAGES:
        folder = _package_folder(name)
        if path.is_relative_to(folder):
            return f"{name}/{path.relative_to(folder).as_posix()}"
    return path.relative_to(kit_root()).as_posix()
