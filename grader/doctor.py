"""``grader doctor``: can this machine grade? Every part is tried for real."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from devstack.errors import DevstackError
from devstack.paths import cache_directory, kit_root
from devstack.placement import LocalPlacement
from devstack.postgres import Cluster
from devstack.postgres_binaries import find_binaries
from grader.checks import collect_checks
from grader.errors import GraderError, SandboxUnavailable
from grader.pipeline import MINIMUM_FREE_BYTES
from grader.rubric import load_rubric, validate_rubric
from grader.sandbox.levels import choose


@dataclass(frozen=True)
class Finding:
    """One examined part."""

    name: str
    ok: bool
    detail: str


async def examine(postgres_bin: Path | None) -> list[Finding]:
    """Examine interpreter, cores, disk, rubric and PostgreSQL (which is started and stopped)."""
    free = shutil.disk_usage(cache_directory()).free
    cores = psutil.cpu_count() or 1
    findings = [
        Finding("Python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} (3.11 or newer is needed)"),
        Finding("cores", cores >= 2, f"{cores} (2 or more are needed: the load runs beside the service)"),
        Finding("disk", free > MINIMUM_FREE_BYTES, f"{free // 10**6} MB free at {cache_directory()}"),
        _rubric(),
        await _postgres(postgres_bin),
        await asyncio.to_thread(_sandbox),
    ]
    return findings


def _rubric() -> Finding:
    try:
        rubric = load_rubric()
        checks = collect_checks()
        validate_rubric(rubric, checks)
        return Finding("rubric", True, f"{len(checks)} checks, exercise and solution in {kit_root()}")
    except (GraderError, DevstackError) as error:
        return Finding("rubric", False, str(error))


def _sandbox() -> Finding:
    try:
        found = choose("auto")
    except SandboxUnavailable as error:
        return Finding("sandbox", False, str(error))
    return Finding("sandbox", True, f"level {found.level}: {', '.join(found.details)}")


async def _postgres(postgres_bin: Path | None) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
            cluster = await Cluster.start(
                Path(folder),
                binaries=find_binaries(postgres_bin),
                bind_address=LocalPlacement.control_address,
                progress=lambda _: None,
            )
            version = cluster.version
            await cluster.stop()
        return Finding("PostgreSQL", True, f"{version}, started and stopped")
    except DevstackError as error:
        return Finding("PostgreSQL", False, str(error))
