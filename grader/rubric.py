"""The rubric: what each category and check is worth. Loaded from TOML and validated against the checks."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from devstack.artifacts import Frozen
from grader.errors import RubricError, UnknownCheck
from grader.model import CheckMeta, Identifier, Tag
from grader.text import one_line

# Rounding error that a sum of weights may have.
_SUM_TOLERANCE = 1e-6
# The brief promises that the core requirements alone are worth at least this much of 100.
MINIMUM_CORE_SHARE = 65.0


class RubricCheck(Frozen):
    """A check's worth inside its category, and the argument for it."""

    points: Annotated[float, Field(ge=0)]
    tag: Tag
    reason: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _notes_carry_no_points(self) -> RubricCheck:
        if (self.tag == "note") != (self.points == 0):
            raise ValueError("notes carry no points, and whatever carries none is a note")
        return self


class RubricCategory(Frozen):
    """A category, its weight in the total (of 100) and its checks in the order of the report."""

    title: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(ge=0, le=100)]
    checks: Annotated[dict[Identifier, RubricCheck], Field(min_length=1)]

    @property
    def points(self) -> float:
        """Points of all its checks."""
        return sum(check.points for check in self.checks.values())


class Rubric(Frozen):
    """Categories with their checks; ``digest`` identifies the file that it was read from."""

    schema_version: Literal[1]
    categories: Annotated[dict[Identifier, RubricCategory], Field(min_length=1)]
    digest: str

    @property
    def check_ids(self) -> tuple[str, ...]:
        """All checks, in the order of the report."""
        return tuple(check for category in self.categories.values() for check in category.checks)

    def category_of(self, check_id: str) -> str:
        """The category that holds a check. Raises UnknownCheck."""
        for name, category in self.categories.items():
            if check_id in category.checks:
                return name
        raise self._unknown(check_id)

    def check(self, check_id: str) -> RubricCheck:
        """A check's worth. Raises UnknownCheck."""
        return self.categories[self.category_of(check_id)].checks[check_id]

    def select(self, names: Sequence[str]) -> tuple[str, ...]:
        """The checks that ``names`` (of checks or categories) stand for, in the order of the report.

        No names: all checks. Raises UnknownCheck, with the nearest name, for any that is neither.
        """
        wanted: set[str] = set()
        for name in names:
            if name in self.categories:
                wanted.update(self.categories[name].checks)
            elif name in self.check_ids:
                wanted.add(name)
            else:
                raise self._unknown(name)
        return tuple(check for check in self.check_ids if check in wanted or not names)

    def _unknown(self, name: str) -> UnknownCheck:
        near = difflib.get_close_matches(name, (*self.check_ids, *self.categories), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"categories: {', '.join(self.categories)}"
        return UnknownCheck(f"no check or category is called {one_line(name, 80)!r}", hint=hint)


def default_rubric() -> Path:
    """The rubric that comes with the grader."""
    return Path(str(resources.files("grader").joinpath("rubric.toml")))


def load_rubric(path: Path | None = None) -> Rubric:
    """Read a rubric (default: the grader's own).

    Raises RubricError, in one line, for a file that cannot be read, broken TOML (with its line), unknown or
    missing fields, negative or NaN points, weights that do not add up to 100, a check in two categories, a
    category without points, and core checks worth less than 65 of 100.
    """
    path = path or default_rubric()
    try:
        content = path.read_bytes()
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise RubricError(
            f"cannot read the rubric {path}: {error.strerror}", hint="leave --rubric out for the grader's own"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RubricError(
            f"rubric {path.name} is not TOML: {one_line(str(error))}", hint="correct it there"
        ) from error
    try:
        rubric = Rubric.model_validate({**document, "digest": hashlib.sha256(content).hexdigest()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise RubricError(f"rubric {path.name}: {place}: {first['msg']}") from error
    problem = _problem(rubric)
    if problem:
        raise RubricError(f"rubric {path.name}: {problem}")
    return rubric


def validate_rubric(rubric: Rubric, checks: Mapping[str, CheckMeta]) -> None:
    """Hold the rubric against the checks, both ways. Raises RubricError for the first difference."""
    for check_id in rubric.check_ids:
        if check_id not in checks:
            near = difflib.get_close_matches(check_id, checks, n=1)
            raise RubricError(
                f"the rubric lists {check_id!r}, but there is no such check",
                hint=f"did you mean {near[0]!r}?" if near else "add the check, or take it out of the rubric",
            )
    for check_id, meta in checks.items():
        if check_id not in rubric.check_ids:
            raise RubricError(
                f"check {check_id!r} is missing from the rubric",
                hint=f"give it points under [categories.{meta.category}.checks]",
            )
        if rubric.category_of(check_id) != meta.category:
            raise RubricError(
                f"check {check_id!r} belongs to {meta.category!r}, but the rubric has it under {rubric.category_of(check_id)!r}"
            )


def _problem(rubric: Rubric) -> str:
    total = sum(category.weight for category in rubric.categories.values())
    if abs(total - 100) > _SUM_TOLERANCE:
        return f"weights of the categories add up to {total:g}, not 100"
    ids = rubric.check_ids
    twice = next((check for check in ids if ids.count(check) > 1), None)
    if twice:
        return f"check {twice!r} is in two categories"
    empty = next((name for name, category in rubric.categories.items() if category.points == 0), None)
    if empty:
        return f"category {empty!r} has no points"
    share = core_share(rubric)
    if share < MINIMUM_CORE_SHARE - _SUM_TOLERANCE:
        return f"core checks are worth {share:.1f} of 100, at least {MINIMUM_CORE_SHARE:g} are promised"
    return ""


def core_share(rubric: Rubric) -> float:
    """How much of 100 the core checks are worth."""
    return sum(
        category.weight
        * sum(check.points for check in category.checks.values() if check.tag == "core")
        / category.points
        for category in rubric.categories.values()
    )
