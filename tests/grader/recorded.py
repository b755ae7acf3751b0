"""Records of real runs, kept as test data: what judging is tested on.

Renew them after a change of what scenarios record::

    make grade SUBMISSION=solution OUT=runs/solution
    .venv/bin/python tests/grader/recorded.py runs/solution solution
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from devstack.paths import cache_directory
from grader.judging import regrade

DATA = Path(__file__).parent / "data"
KEPT = ("lock.json", "rubric.toml", "scorecard.json", "artifacts")


def record(run: Path, name: str) -> Path:
    """Keep what regrading a run needs as ``data/<name>.tar.xz``, without the paths of the machine that made it."""
    DATA.mkdir(exist_ok=True)
    target = DATA / f"{name}.tar.xz"
    places = {str(run.resolve()): "/run", str(cache_directory()): "/cache", sys.base_prefix: "/python"}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(
            run, copy, ignore=lambda folder, names: set(names) - set(KEPT) if folder == str(run) else set()
        )
        for path in copy.rglob("*.json"):
            text = path.read_text(encoding="utf-8")
            for place, instead in places.items():
                text = text.replace(place, instead)
            path.write_text(text, encoding="utf-8")
        regrade(copy)
        with tarfile.open(target, "w:xz") as archive:
            for part in KEPT:
                archive.add(copy / part, arcname=part, filter=_anonymous)
    return target


def unpack(name: str, destination: Path) -> Path:
    """A recorded run as a run directory."""
    with tarfile.open(DATA / f"{name}.tar.xz") as archive:
        # The archive is our own; the filter came with Python 3.11.4 and is the default from 3.14 on.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(destination, **safe)  # type: ignore[arg-type]
    return destination


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


if __name__ == "__main__":
    print(record(Path(sys.argv[1]), sys.argv[2]))
