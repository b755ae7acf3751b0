"""How a run ended, and what it leaves behind: processes, ports and files, found by the paths of its run directory."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from devstack.placement import TREE_MARK, tree_tag


@dataclass(frozen=True)
class Ended:
    """How ``grader`` ended: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines in which it says what went wrong."""
        return [line for line in self.err.splitlines() if line.startswith("grader: ")]


@dataclass(frozen=True)
class Traces:
    """Processes that work in a run directory, and where its PostgreSQL keeps its data."""

    run: Path

    def processes(self) -> list[str]:
        """Command lines of the living processes (but this one) with a file open, or their folder, in the run."""
        return [" ".join(process.cmdline()) for process in self._living()]

    def data_directories(self) -> set[Path]:
        """Directories under the cache's ``running/`` that the run's PostgreSQL uses."""
        lines = " ".join(self.processes())
        return {Path(found) for found in re.findall(r"\S+/running/[0-9a-f]+(?=[ /])", lines)}

    def open_ports(self) -> list[int]:
        """Ports named in PostgreSQL's log on which somebody still listens."""
        log = self.run / "logs" / "postgres.log"
        text = log.read_text() if log.exists() else ""
        return [int(port) for port in re.findall(r"port (\d+)", text) if _listens(int(port))]

    def gone(self, within_s: float = 0) -> bool:
        """Whether nothing of the run lives any more."""
        deadline = time.monotonic() + within_s
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.processes() and not self.open_ports()

    def kill(self) -> None:
        """End whatever a failed test left."""
        for process in self._living():
            process.kill()

    def _living(self) -> Iterator[psutil.Process]:
        root = str(self.run.resolve()) + "/"
        mark = f"{TREE_MARK}={tree_tag(self.run.resolve() / 'submission')}-".encode()
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                paths = [process.cwd() + "/", *_descriptors(process.pid)]
                ours = any(path.startswith(root) for path in paths)
                # A sandbox has neither its folder nor a file there, but the mark of its tree.
                ours = ours or mark in Path(f"/proc/{process.pid}/environ").read_bytes()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.Error, OSError):
                continue


def _descriptors(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    found = []
    for entry in folder.iterdir():
        try:
            found.append(os.readlink(entry))
        except OSError:
            continue
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
