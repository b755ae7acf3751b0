"""What a level of isolation costs: ready time and CPU time per request of ``solution``, level after level in turn.

``.venv/bin/python benchmarks/isolation.py [ROUNDS] [LEVEL…]`` prints a table; by default 6 rounds of none and strong.
Each round starts the service anew in a process of its own, waits until it is ready, warms it up and sends it 1,500 reads
one after the other; CPU is that of the service's whole tree, from the kernel, in ticks of 10 ms.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from devstack.paths import kit_root
from devstack.placement import Placement
from devstack.postgres import Cluster, find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, World, WorldSettings
from grader import environment
from grader.sandbox.levels import Level, Sandbox, entered

WARM_UP = 200
REQUESTS = 1_500
SOURCE = kit_root() / "solution"


async def measure(placement: Placement, python: Path) -> dict[str, float]:
    """Seconds until ready, and milliseconds of CPU and of waiting per request."""
    now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    live = LiveData.from_seed(1, now)
    with tempfile.TemporaryDirectory(prefix="isolation-") as folder:
        async with await Cluster.start(
            Path(folder), binaries=find_binaries(), bind_address=placement.control_address
        ) as cluster:
            template = await cluster.make_template("template", live=live, migrations=SOURCE / "migrations")
            settings = WorldSettings(
                cluster=cluster,
                template=template,
                live=live,
                placement=placement,
                submission=Submission(SOURCE, python),
                seed=1,
                ticket_secret="isolation",
            )
            async with World(settings, Path(folder) / "world") as world:
                begun = time.monotonic()
                service = await world.start_service()
                ready_s = time.monotonic() - begun
                event = live.open_events(minimum_seats=1)[0]
                async with httpx.AsyncClient(base_url=service.base_url, trust_env=False) as http:
                    for _ in range(WARM_UP):
                        await http.get(f"/events/{event.id}")
                    cpu_s, begun = service.usage().cpu_s, time.monotonic()
                    for _ in range(REQUESTS):
                        (await http.get(f"/events/{event.id}")).raise_for_status()
                    elapsed_s = time.monotonic() - begun
                    cpu_s = service.usage().cpu_s - cpu_s
    return {
        "ready_s": ready_s,
        "cpu_ms": 1000 * cpu_s / REQUESTS,
        "latency_ms": 1000 * elapsed_s / REQUESTS,
    }


def once(level: Level) -> None:
    """One round, in this process."""
    python = asyncio.run(environment.prepare(SOURCE, lambda _: None)).python
    with entered(Sandbox(level)) as placement:
        print(json.dumps(asyncio.run(measure(placement, python))))


def main() -> None:
    """Rounds in turn, then the table."""
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2])  # type: ignore[arg-type]
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    levels = sys.argv[2:] or ["none", "strong"]
    found: dict[str, list[dict[str, float]]] = {level: [] for level in levels}
    for number in range(rounds):
        # in turn, and each level first as often as the others
        for level in levels[number % len(levels) :] + levels[: number % len(levels)]:
            done = subprocess.run(
                [sys.executable, __file__, "--once", level], capture_output=True, text=True, check=True
            )
            found[level].append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"| level | ready, s | CPU per request, ms | latency, ms | of {rounds} rounds: median (least to most) |"
    )
    print("|---|---|---|---|---|")
    for level, rows in found.items():
        cells = []
        for name in ("ready_s", "cpu_ms", "latency_ms"):
            values = [row[name] for row in rows]
            cells.append(f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"| {level} | {' | '.join(cells)} | |")
    first = levels[0]
    for level in levels[1:]:
        ratios = [b["cpu_ms"] / a["cpu_ms"] for a, b in zip(found[first], found[level], strict=True)]
        more_s = [b["ready_s"] - a["ready_s"] for a, b in zip(found[first], found[level], strict=True)]
        print(
            f"{level} against {first}: CPU per request × {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}), ready {statistics.median(more_s):+.2f} s"
        )


if __name__ == "__main__":
    main()
