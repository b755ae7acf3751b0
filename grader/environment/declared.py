"""What a submission declares: its ``pyproject.toml`` as data.

Read is ``[project] dependencies``: names, extras, version specifiers, and markers, which are evaluated for the grader's
own Python. Whatever else the file says is ignored: no build backend, script or plugin named in it ever runs, and no
file besides it (``requirements*.txt``, locks) is looked at. What would take a declared package from elsewhere is
refused, because the candidate would otherwise be graded on something that they did not send.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from grader.environment.locks import locked_versions
from grader.errors import SubmissionRefused, UsageError
from grader.text import one_line

MAX_BYTES = 256 * 1024
"""Of ``pyproject.toml``; a large one has 20 KiB."""

MAX_DEPENDENCIES = 200
MAX_DEPENDENCY_CHARACTERS = 500
MAX_KEY_PARTS = 32
"""Of one key, between dots: reading a key takes time with the square of its length, in Python."""

_FILE = "pyproject.toml"
_SHOWN_CHARACTERS = 80

_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    # Possessive, and tried only where a key may begin, so that the time it takes grows with the file's length only.
    rf"(?:^|(?<=[\s\[{{,])){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}"
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_ELSEWHERE = re.compile(r"\s*(?:\.|/|~|\\|[A-Za-z]:[\\/])|[A-Za-z+]+://|\s*(?:file|git|hg|svn|bzr)[:+]")
_INDEX_OPTIONS = ("index", "index-url", "extra-index-url", "find-links")


def check_dependencies(source: Path, lock: Path, *, allowed: Sequence[str] = ()) -> tuple[Requirement, ...]:
    """What ``source`` depends on with this Python, markers already evaluated.

    ``lock``: the kit's, whose packages are permitted at its versions; ``allowed``: names that are permitted besides.

    Raises UsageError if a name in ``allowed`` is none, and SubmissionRefused, with one line that names the dependency
    and what to do, for unknown packages, other versions, URLs, options, a broken file.
    """
    names = allowed_names(allowed)
    versions = locked_versions(lock)
    wanted = parse(_content(source / _FILE))
    for requirement in wanted:
        _check(requirement, versions, names)
    return wanted


def allowed_names(names: Collection[str]) -> frozenset[str]:
    """Canonical forms of ``names`` of packages. Raises UsageError for what is no name as of PEP 508."""
    for name in names:
        if not _NAME.fullmatch(name):
            shown = one_line(name, _SHOWN_CHARACTERS)
            raise UsageError(
                f"--allow {shown!r}: not the name of a package; give the name alone, as in orjson"
            )
    return frozenset(str(canonicalize_name(name)) for name in names)


def parse(content: bytes) -> tuple[Requirement, ...]:
    """The dependencies that ``content`` of a ``pyproject.toml`` declares for this Python.

    Raises SubmissionRefused, with one line, for everything that is not names, extras, versions and markers.
    """
    document = _document(content)
    project = document.get("project", {})
    dependencies = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(dependencies, list) or not all(isinstance(text, str) for text in dependencies):
        raise _refused("[project] dependencies must be a list of strings; correct it")
    if len(dependencies) > MAX_DEPENDENCIES:
        raise _refused(
            f"{len(dependencies)} dependencies are declared, the limit is {MAX_DEPENDENCIES}; remove some"
        )
    dynamic = project.get("dynamic", [])
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        raise _refused("[project] dependencies are dynamic, and no build backend runs here; list them")
    requirements = [_requirement(text) for text in dependencies]
    _check_sources(document, {canonicalize_name(requirement.name) for requirement in requirements})
    return tuple(requirement for requirement in requirements if _applies(requirement))


def _content(path: Path) -> bytes:
    try:
        # A link would lead out of the submission, a pipe would never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SubmissionRefused(f"{_FILE} is missing: restore it from the exercise") from error
    except OSError as error:
        raise SubmissionRefused(
            f"{_FILE} cannot be read: {error.strerror}; make it an ordinary file"
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SubmissionRefused(f"{_FILE} is not an ordinary file: restore it from the exercise")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _document(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise _refused(f"the file is larger than {MAX_BYTES // 1024} KiB; shorten it")
    try:
        text = content.decode("utf-8")
        if _LONG_KEY.search(text):
            raise _refused(f"a key has more than {MAX_KEY_PARTS} parts; shorten it")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers with too many digits
        raise SubmissionRefused(f"{_FILE} cannot be read: {one_line(str(error), 120)}; correct it") from error


def _requirement(text: str) -> Requirement:
    shown = repr(one_line(text, _SHOWN_CHARACTERS))
    if len(text) > MAX_DEPENDENCY_CHARACTERS:
        raise _refused(f"{shown} has more than {MAX_DEPENDENCY_CHARACTERS} characters; shorten it")
    if text.lstrip().startswith("-"):
        raise _refused(f"{shown} is an option of an installer: name a package and its versions instead")
    if "$" in text or not (text.isascii() and text.isprintable()):
        raise _refused(f"{shown} has characters that no dependency needs: name a package and its versions")
    if _ELSEWHERE.match(text):
        raise _refused(f"{shown} is a path or a URL: name a released version instead")
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as error:
        raise _refused(f"{shown} is not a dependency: {one_line(str(error), 120)}; correct it") from error
    if requirement.url:
        raise _refused(f"{requirement.name} comes from a URL: name a released version instead")
    if any(specifier.operator == "===" for specifier in requirement.specifier):
        raise _refused(f"{shown} compares versions as text: write ==")
    return requirement


def _applies(requirement: Requirement) -> bool:
    if requirement.marker is None:
        return True
    try:
        return requirement.marker.evaluate()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        marker = one_line(str(requirement.marker), _SHOWN_CHARACTERS)
        raise _refused(
            f"{requirement.name}: the marker {marker!r} cannot be evaluated; correct it"
        ) from error


def _check(requirement: Requirement, versions: Mapping[str, Version], allowed: frozenset[str]) -> None:
    name = canonicalize_name(requirement.name)
    version = versions.get(name)
    if version is None:
        if name not in allowed:
            raise _refused(
                f"{one_line(requirement.name, _SHOWN_CHARACTERS)} is not on the allow-list of the brief"
                " (ALLOWED.txt); do without it, or let the grader permit it with --allow"
            )
    elif not requirement.specifier.contains(version, prereleases=True):
        raise _refused(
            f"{requirement.name}{requirement.specifier} does not admit the kit's {version}: widen it"
        )


def _check_sources(document: Mapping[str, Any], declared: Collection[str]) -> None:
    for place, option in _source_options(document, declared):
        raise _refused(f"[{place}] {option} would take packages from elsewhere: remove it")


def _source_options(document: Mapping[str, Any], declared: Collection[str]) -> Iterator[tuple[str, str]]:
    """Where ``tool.uv`` names another origin of a declared package. An index that only others use does not matter."""
    if not declared:
        return
    uv = _table(_table(document, "tool"), "uv")
    for name in _table(uv, "sources"):
        if canonicalize_name(name) in declared:
            yield "tool.uv.sources", one_line(name, _SHOWN_CHARACTERS)
    for place, table in (("tool.uv", uv), ("tool.uv.pip", _table(uv, "pip"))):
        for option in _INDEX_OPTIONS:
            if option in table and not (option == "index" and _explicit_only(table[option])):
                yield place, option


def _explicit_only(indexes: object) -> bool:
    return isinstance(indexes, list) and all(
        isinstance(index, dict) and index.get("explicit") is True for index in indexes
    )


def _table(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _refused(reason: str) -> SubmissionRefused:
    return SubmissionRefused(f"{_FILE}: {reason}")
