"""Which level of isolation a run has: the strongest that works here, tried for real, or what was asked for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from devstack.placement import LocalPlacement, Placement
from grader.errors import SandboxUnavailable

if TYPE_CHECKING:
    from grader.sandbox.container import ContainerPlacement
    from grader.sandbox.strong import StrongPlacement

Level = Literal["strong", "container", "none"]
Wanted = Literal["auto", "strong", "container", "none"]

PROBE_LIMIT_S = 60.0


@dataclass(frozen=True)
class Sandbox:
    """A level that works here. ``details``: what it is made of, in a few words each, for the scorecard."""

    level: Level
    details: tuple[str, ...] = ()


def choose(wanted: Wanted) -> Sandbox:
    """The sandbox that a run gets; ``auto`` is the strongest that works. Starts a process for each that is tried.

    Raises SandboxUnavailable, with what to do, when none works.
    """
    if wanted == "none":
        return Sandbox("none")
    reasons: list[SandboxUnavailable] = []
    levels: tuple[Level, ...] = ("strong", "container") if wanted == "auto" else (wanted,)
    for level in levels:
        try:
            return Sandbox(level, probe(level))
        except SandboxUnavailable as error:
            reasons.append(error)
    raise reasons[0]


def probe(level: Level) -> tuple[str, ...]:
    """Start something harmless at ``level``, in a process of its own; the details. Raises SandboxUnavailable."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "grader.sandbox.probe", level],
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
            check=False,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        if told["works"]:
            return tuple(told["details"])
        raise SandboxUnavailable(told["reason"], hint=told["hint"])
    except subprocess.TimeoutExpired as error:
        raise SandboxUnavailable(f"the sandbox did not start in {PROBE_LIMIT_S:.0f} s") from error
    except (OSError, ValueError, LookupError) as error:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SandboxUnavailable(f"the sandbox could not be tried: {last}") from error


@contextlib.contextmanager
def entered(sandbox: Sandbox) -> Iterator[Placement]:
    """The placement of ``sandbox``, for as long as the block runs; strong: this process moves into its namespaces for good.

    Call it before any thread is started. Raises SandboxUnavailable.
    """
    if sandbox.level == "none":
        yield LocalPlacement()
        return
    # Only here, because what they import takes time to load.
    from grader.sandbox import bubblewrap, container, ground

    placement: ContainerPlacement | StrongPlacement
    if sandbox.level == "container":
        engine = container.find()
        placement = container.ContainerPlacement(ground.enter(), engine)
    else:
        from grader.sandbox.strong import StrongPlacement

        placement = StrongPlacement(ground.enter(), bubblewrap.find())
    try:
        yield placement
    finally:
        placement.close()
