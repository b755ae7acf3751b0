"""Drive one scenario in a world of its own, and turn whatever happens into an artifact."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from devstack.artifacts import Artifact, Outcome
from devstack.errors import MigrationFailed, PostgresError, ServiceError
from devstack.postgres import Database
from devstack.world import World, WorldSettings
from grader.scenarios.recorder import Recorder
from grader.scenarios.stage import Scenario, Stage
from grader.text import one_line
from grader.watch import Watch, Window

LOG_TAIL_CHARACTERS = 6_000
_REASON_CHARACTERS = 300
EXIT_NOTICE_S = 0.1
"""A connection breaks a moment before the end of its process is known and its last words are in the log."""

DATABASE_DIED = "PostgreSQL, or one of its processes, died by itself; see logs/postgres.log"


async def drive(
    scenario: Scenario,
    settings: WorldSettings,
    directory: Path,
    *,
    attempt: int,
    reference: WorldSettings | None = None,
    watch: Watch | None = None,
) -> Artifact:
    """Drive ``scenario`` once. Never raises for what the submission or the world does; cancellation passes.

    A service that never started is ``blocked``; one that died later, or used up the scenario's time, is
    ``cut-short``; any other exception is ``trouble``, ours, and so is a PostgreSQL that died. ``directory`` keeps
    the service's log. ``watch``: the run's, already entered; without it the machine is watched for this scenario alone.
    """
    if watch is None:
        async with Watch(settings.submission.source) as own:
            return await drive(scenario, settings, directory, attempt=attempt, reference=reference, watch=own)
    task = asyncio.current_task()
    assert task is not None
    recorder = Recorder()
    outcome = Outcome()
    log_tail = ""
    window = Window()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        async with (
            _with_own_data(scenario, settings) as own_settings,
            World(own_settings, directory) as world,
        ):
            stage = Stage(scenario, world, recorder, seed=settings.seed, reference=reference)
            crashes = settings.cluster.crashes()
            try:
                async with watch.window(quiet=scenario.quiet, epoch_s=world.epoch) as window:
                    outcome = await _drive_within_budget(stage)
                if settings.cluster.died or settings.cluster.crashes() > crashes:
                    outcome = Outcome(kind="trouble", reason=DATABASE_DIED)
            finally:
                await stage.close()
                with contextlib.suppress(OSError):
                    log_tail = _tail(world.log)
    except MigrationFailed as error:
        outcome = Outcome(kind="blocked", reason=one_line(str(error), _REASON_CHARACTERS))
    except Exception as error:
        if task.cancelling():
            # What fails while everything is torn down must not hide that we were told to stop.
            raise asyncio.CancelledError from error
        outcome = _trouble(error)
    _keep_log_only(directory)
    return recorder.artifact(scenario.name, attempt, outcome, log_tail, window.found)


@contextlib.asynccontextmanager
async def _with_own_data(scenario: Scenario, settings: WorldSettings) -> AsyncIterator[WorldSettings]:
    """The settings with a template of the scenario's own while the block runs, where it brings data.

    Its events are in the database before the submission's migrations, like all others. Raises MigrationFailed.
    """
    if scenario.data is None:
        yield settings
        return
    live = scenario.data(settings.live, dt.datetime.now(dt.UTC))
    # Several submissions may share a cluster.
    name = f"template_{scenario.name}_{secrets.token_hex(5)}"
    migrations = settings.submission.source / "migrations"
    await settings.cluster.make_template(name, live=live, migrations=migrations)
    try:
        yield replace(settings, template=name, live=live)
    finally:
        with contextlib.suppress(PostgresError):
            await settings.cluster.drop(Database(name, f"{name}_owner", "", 0))


async def _drive_within_budget(stage: Stage) -> Outcome:
    outcome = await _outcome(stage)
    await asyncio.sleep(EXIT_NOTICE_S)
    if stage.started and stage.service.died and outcome.kind in ("completed", "trouble"):
        # Whatever else went wrong then, this is why.
        message = f"{stage.service.how_it_ended()} while it was being driven"
        outcome = Outcome(kind="cut-short", reason=_with_last_line(message, stage))
    if outcome.kind == "cut-short":
        # What reached the upstreams is evidence also for a scenario that did not come to its end.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(stage.ledger(), timeout=5)
    return outcome


async def _outcome(stage: Stage) -> Outcome:
    budget_s = stage.scenario.budget_s
    try:
        async with asyncio.timeout(budget_s) as budget:
            await stage.scenario.drive(stage)
    except TimeoutError as error:
        if not budget.expired():
            return _trouble(error)
        return Outcome(kind="cut-short", reason=f"the scenario's {budget_s:.0f} s were used up")
    except Exception as error:
        first = _first(error)
        if not isinstance(first, ServiceError):
            return _trouble(first)
        reason = _with_last_line(str(first), stage)
        return Outcome(kind="cut-short" if stage.started else "blocked", reason=reason)
    return Outcome()


def _first(error: Exception) -> Exception:
    """What happened first, where requests side by side met the same end."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _trouble(error: BaseException) -> Outcome:
    text = one_line(f"{type(error).__name__}: {error}", _REASON_CHARACTERS)
    return Outcome(kind="trouble", reason=text)


def _with_last_line(message: str, stage: Stage) -> str:
    """The error and the service's last words: what a person would look for first."""
    lines = [line for line in _tail(stage.world.log).splitlines() if line.strip()]
    return one_line(f"{message}; its log ends: {lines[-1]}" if lines else message, _REASON_CHARACTERS)


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LOG_TAIL_CHARACTERS))
        return file.read().decode("utf-8", "replace")


def _keep_log_only(directory: Path) -> None:
    """Drop the services' temporary folders: they are a submission's bytes that nobody reads."""
    for path in directory.glob("tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
