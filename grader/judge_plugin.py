"""The pytest plugin behind :mod:`grader.judge`: gives checks their artifacts, writes down what they came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from devstack.artifacts import Artifact
from grader.judge import Judge, meta_of, parameter_of
from grader.model import CheckMeta, CheckOutcome, Verdict
from grader.paths import RunPaths
from grader.verdicts import ArtifactStore, decide, run_check

_STORE = pytest.StashKey[ArtifactStore]()
_REGISTERED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin."""
    group = parser.getgroup("grader", "judging a run")
    group.addoption("--run-dir", type=Path, metavar="RUN", help="the run directory to judge")
    group.addoption("--check", action="append", metavar="ID", help="run this check only (repeatable)")
    group.addoption("--results", type=Path, metavar="FILE", help="append one JSON line per check to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Open the run directory. Raises pytest.UsageError if there is none."""
    run_dir: Path | None = config.getoption("--run-dir")
    if run_dir is None:
        raise pytest.UsageError("say which run to judge: --run-dir RUN")
    run = RunPaths(run_dir)
    if not run.artifacts.is_dir():
        raise pytest.UsageError(f"{run_dir} is not a run directory: it has no folder 'artifacts'")
    config.stash[_STORE] = ArtifactStore(run)
    config.stash[_REGISTERED] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Make a fixture for each scenario that a check asks for, just before pytest looks for it."""
    meta = meta_of(obj)
    registered = collector.config.stash[_REGISTERED]
    for scenario in meta.requires if meta else ():
        parameter = parameter_of(scenario)
        if parameter not in registered:
            registered.add(parameter)
            _register_artifact(collector.session, scenario)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the checks that were asked for, if any were."""
    wanted: list[str] | None = config.getoption("--check")
    if wanted:
        kept = [item for item in items if (meta := _item_meta(item)) and meta.id in wanted]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _item_meta(item: pytest.Item) -> CheckMeta | None:
    return meta_of(item.function) if isinstance(item, pytest.Function) else None


def _register_artifact(session: pytest.Session, scenario: str) -> None:
    store = session.config.stash[_STORE]
    pytest.register_fixture(
        name=parameter_of(scenario), func=lambda: store.find(scenario), node=session, scope="session"
    )


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """The judge of one check."""
    meta = meta_of(request.function)
    if meta is None:
        raise pytest.UsageError(f"{request.node.name} asks for `judge` but is not declared with @check")
    return Judge(meta)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a check under the verdict policy; what is no check is left to pytest."""
    meta = meta_of(pyfuncitem.function)
    if meta is None:
        return None
    ballots = pyfuncitem.config.stash[_STORE].ballots(meta.requires)
    result = decide(meta, [_vote(pyfuncitem.obj, meta, ballot) for ballot in ballots])
    _write_down(pyfuncitem.config, result)
    _tell_pytest(result)
    return True


def _vote(check: Callable[..., None], meta: CheckMeta, ballot: Mapping[str, Artifact | None]) -> CheckOutcome:
    """What the check says of one attempt."""
    judge = Judge(meta)
    arguments: dict[str, Any] = {parameter_of(scenario): artifact for scenario, artifact in ballot.items()}
    return run_check(judge, lambda: check(**arguments, judge=judge), ballot)


def _write_down(config: pytest.Config, result: CheckOutcome) -> None:
    results: Path | None = config.getoption("--results")
    if results is not None:
        with results.open("a", encoding="utf-8") as file:
            file.write(result.model_dump_json() + "\n")


def _tell_pytest(result: CheckOutcome) -> None:
    """Show by hand what the grader will publish: a failure for anything that costs points or cannot be told."""
    if result.verdict is Verdict.PASSED:
        return
    if result.verdict is Verdict.NOT_APPLICABLE:
        pytest.skip(result.not_applicable or "")
    summary = result.judgement.summary if result.judgement else ""
    told = result.error or result.blocked_by or summary
    pytest.fail(f"{result.verdict}: {told}", pytrace=False)
