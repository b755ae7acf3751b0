"""Checks judge the record of a run. Each is a pytest test."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from grader.errors import RubricError
from grader.judge import meta_of
from grader.model import CheckMeta


def collect_checks(*extra_directories: Path) -> dict[str, CheckMeta]:
    """The checks of the grader and of ``extra_directories`` (their ``test_*.py``), by id, none of them run.

    Raises RubricError for an id that is used twice, and for a file that cannot be imported.
    """
    return {name: meta for name, (meta, _) in check_functions(*extra_directories).items()}


def check_functions(*extra_directories: Path) -> dict[str, tuple[CheckMeta, Callable[..., None]]]:
    """As :func:`collect_checks`, each with the function that judges."""
    found: dict[str, tuple[CheckMeta, Callable[..., None]]] = {}
    for module in (*_packaged(), *_extra(extra_directories)):
        for value in vars(module).values():
            meta = meta_of(value)
            if meta is None or value.__module__ != module.__name__:
                continue
            if meta.id in found:
                raise RubricError(f"two checks are called {meta.id!r}")
            found[meta.id] = (meta, value)
    return found


def _packaged() -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("test_"):
            yield importlib.import_module(f"{__name__}.{info.name}")


def _extra(directories: tuple[Path, ...]) -> Iterator[ModuleType]:
    for directory in directories:
        for path in sorted(directory.glob("test_*.py")):
            yield _imported(path)


def _imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"extra_checks_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RubricError(f"cannot import the checks in {path}")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RubricError(f"cannot import the checks in {path}: {type(error).__name__}: {error}") from error
    return module
