"""Judging real records: the same bytes again, and no answer of a service that breaks a check."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, NotObserved
from grader import checks
from grader.errors import ExitCode
from grader.judge import Judge, NotApplicable, meta_of, parameter_of
from grader.judging import regrade
from grader.model import CheckMeta, Verdict
from grader.scoring import exit_code
from tests.grader.recorded import unpack

ROUNDS = 12
JUNK: tuple[JsonValue, ...] = (
    None, True, 0, -1, 1.5, 10**18, "", "x", "NaN", [], [None], {}, {"id": None}, {"id": [1]}, {"items": None},
    {"items": [None]}, {"items": {}}, {"status": 3}, {"id": "a/../b", "status": "confirmed", "total": None},
    {"total": {"amount": "NaN"}}, {"total": {"amount": "1e999999"}}, {"position": "x"}, {"seats_available": "many"},
    {"id": {"x": 1}, "status": ["confirmed"]},
)  # fmt: skip


@pytest.fixture(scope="module", params=["solution", "exercise"])
def recorded_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name: str = request.param
    return unpack(name, tmp_path_factory.mktemp(name))


def test_a_recorded_run_regrades_to_the_same_bytes(recorded_run: Path) -> None:
    before = (recorded_run / "scorecard.json").read_bytes()
    scorecard = regrade(recorded_run)
    assert (recorded_run / "scorecard.json").read_bytes() == before
    assert scorecard.complete
    assert exit_code(scorecard) is ExitCode.GRADED
    assert not [result.id for result in scorecard.results if result.verdict is Verdict.ERRORED]


def test_both_ends_of_the_scale_are_far_apart(tmp_path: Path) -> None:
    best, worst = (regrade(unpack(name, tmp_path / name)) for name in ("solution", "exercise"))
    assert best.score is not None
    assert worst.score is not None
    assert best.score >= 97
    assert all((category.score or 0) >= 95 for category in best.categories)
    assert worst.score <= 20
    assert all((category.score or 0) <= 35 for category in worst.categories)


def test_no_answer_of_a_service_breaks_a_check(recorded_run: Path) -> None:
    """Answers are replaced by failures, other statuses and junk; a check may fail then, but not break."""
    chance = random.Random(20)
    artifacts = {
        folder.name: Artifact.model_validate_json(sorted(folder.glob("*.json"))[-1].read_bytes())
        for folder in (recorded_run / "artifacts").iterdir()
    }
    functions = _check_functions()
    broken: set[str] = set()
    for _ in range(ROUNDS):
        share = chance.choice([0.02, 0.3, 1.0])
        changed = {name: _disturbed(artifact, chance, share) for name, artifact in artifacts.items()}
        for meta, function in functions:
            broken |= _breakage(meta, function, changed)
    assert broken == set()


def _check_functions() -> list[tuple[CheckMeta, Callable[..., None]]]:
    names = [info.name for info in pkgutil.iter_modules(checks.__path__) if info.name.startswith("test_")]
    modules = [importlib.import_module(f"grader.checks.{name}") for name in names]
    return [
        (meta, found) for module in modules for found in vars(module).values() if (meta := meta_of(found))
    ]


def _breakage(meta: CheckMeta, function: Callable[..., None], artifacts: dict[str, Artifact]) -> set[str]:
    judge = Judge(meta)
    needed = {parameter_of(name): artifacts[name] for name in meta.requires}
    try:
        function(**needed, judge=judge)
        judge.judgement()
    except NotApplicable:
        return set()
    except NotObserved as error:
        cut_short = any(artifact.outcome.kind == "cut-short" for artifact in needed.values())
        return set() if cut_short else {f"{meta.id}: {error}"}
    except Exception as error:
        return {f"{meta.id}: {type(error).__name__}: {error}"}
    return set()


def _disturbed(artifact: Artifact, chance: random.Random, share: float) -> Artifact:
    exchanges = {
        name: tuple(_other(one, chance) if chance.random() < share else one for one in found)
        for name, found in artifact.exchanges.items()
    }
    texts = {name: text if chance.random() < 0.7 else "" for name, text in artifact.texts.items()}
    return artifact.model_copy(update={"exchanges": exchanges, "texts": texts})


def _other(exchange: Exchange, chance: random.Random) -> Exchange:
    kind = chance.choice(["no answer", "payload", "payload", "status", "headers", "as it is"])
    if kind == "no answer":
        error = chance.choice(["timeout", "refused", "reset", "protocol", "too-large"])
        gone = {"status": None, "error": error, "payload": None, "body": "", "headers": {}}
        return exchange.model_copy(update=gone)
    if kind == "payload":
        return exchange.model_copy(update={"payload": _junk(exchange.payload, chance)})
    if kind == "status":
        status = chance.choice([100, 200, 201, 202, 301, 404, 409, 422, 500, 503])
        return exchange.model_copy(update={"status": status})
    if kind == "headers":
        headers = {name: chance.choice(["", "x", "-1"]) for name in exchange.headers}
        body = chance.choice(["", "NaN", "# TYPE", 'a{b="c"} NaN\nx'])
        return exchange.model_copy(update={"headers": headers, "body": body})
    return exchange


def _junk(value: JsonValue, chance: random.Random) -> JsonValue:
    if chance.random() < 0.3:
        return chance.choice(JUNK)
    if isinstance(value, dict):
        kept = {name: found for name, found in value.items() if chance.random() > 0.1}
        return {
            name: _junk(found, chance) if chance.random() < 0.4 else found for name, found in kept.items()
        }
    if isinstance(value, list):
        length = chance.choice([0, 1, len(value)])
        return [_junk(found, chance) if chance.random() < 0.4 else found for found in value[:length]]
    return chance.choice(JUNK)
