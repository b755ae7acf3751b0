"""Control groups: the kernel holds a tree of processes to a limit of memory, of processes, and to a share of the CPU.

Groups are made below the caller's own, in version 2 of the interface or in the hierarchies of version 1. Each is
locked for as long as its grader lives, so that the next one can tell and remove what a killed grader left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "boxoffice-"
NEEDED = frozenset({"memory", "pids"})
WANTED = frozenset({"memory", "pids", "cpu"})
_DEFAULT_SHARES = 1024
_DEFAULT_WEIGHT = 100
_ROUNDS = 100
"""Attempts at what others can undo meanwhile; few are needed."""

PROC = Path("/proc/self")


@dataclass(frozen=True)
class Share:
    """What a group may use. ``cpu_weight``: of the 100 that every other group, or process outside of groups, has."""

    memory_bytes: int
    processes: int
    cpu_weight: int


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy. ``root``: where it is mounted; ``own``: the caller's group in it."""

    version: int
    root: Path
    own: Path
    controllers: frozenset[str]


@dataclass(frozen=True)
class Places:
    """Where groups can be made: a folder for each controller; version 2 has the same one for all."""

    version: int
    parents: Mapping[str, Path]

    def make(self, name: str, share: Share) -> ControlGroup:
        """A group that is limited to ``share``. Raises OSError, and leaves nothing, if that cannot be had."""
        folders: dict[str, _Folder] = {}
        try:
            for controller, parent in self.parents.items():
                same = next((each for each in folders.values() if each.path.parent == parent), None)
                folders[controller] = same or _Folder(parent / f"{PREFIX}{name}")
            group = ControlGroup(self.version, folders)
            group.limit(share)
        except OSError:
            for folder in folders.values():
                folder.remove()
            raise
        return group


class ControlGroup:
    """One group, in all its hierarchies. Made by :meth:`Places.make`."""

    def __init__(self, version: int, folders: Mapping[str, _Folder]) -> None:
        self._version = version
        self._folders = folders

    def limit(self, share: Share) -> None:
        """Set the limits. Raises OSError."""
        memory, pids = self._folders["memory"].path, self._folders["pids"].path
        if self._version == 1:
            _write(memory / "memory.limit_in_bytes", share.memory_bytes)
            if (memory / "memory.memsw.limit_in_bytes").exists():
                _write(memory / "memory.memsw.limit_in_bytes", share.memory_bytes)
            else:
                _write(memory / "memory.swappiness", 0)
        else:
            _write(memory / "memory.max", share.memory_bytes)
            if (memory / "memory.swap.max").exists():
                _write(memory / "memory.swap.max", 0)
        _write(pids / "pids.max", share.processes)
        if "cpu" in self._folders:
            cpu = self._folders["cpu"].path
            if self._version == 1:
                _write(cpu / "cpu.shares", _DEFAULT_SHARES * share.cpu_weight // _DEFAULT_WEIGHT)
            else:
                _write(cpu / "cpu.weight", share.cpu_weight)

    @property
    def weighs_cpu(self) -> bool:
        """Whether it has a share of the CPU, too."""
        return "cpu" in self._folders

    def enter(self) -> None:
        """Move the calling process in. Only system calls: it is called between fork and exec. Raises OSError."""
        for folder in self._each():
            os.write(folder.entrance, b"0")

    def memory_ran_out(self) -> bool:
        """Whether the kernel ended one of its processes because the group was at its limit."""
        folder = self._folders["memory"].path
        return _ran_out_1(folder) if self._version == 1 else memory_ran_out(folder)

    def peak_bytes(self) -> int | None:
        """The most memory that it had at once, files that it read included; ``None`` where the kernel does not say."""
        folder = self._folders["memory"].path
        return _number(folder / ("memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"))

    def kill(self) -> None:
        """SIGKILL everything in it. What is dead may take a moment to leave it."""
        kill(self._folders["pids"].path, self._folders.get("freezer"))

    def empty(self) -> bool:
        """Whether nothing is left in it."""
        return all(not members(folder.path) for folder in self._each())

    def remove(self) -> bool:
        """Remove it; ``False`` if something is left in it. One that has gone is no error."""
        return sum(not folder.remove() for folder in self._each()) == 0

    def _each(self) -> list[_Folder]:
        return list({folder.path: folder for folder in self._folders.values()}.values())


class _Folder:
    """A group in one hierarchy, locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for _ in range(_ROUNDS):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o755)
            try:
                self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # somebody who cleans up was between our two calls
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.stat(path), os.fstat(self._lock)):
                break
            os.close(self._lock)
        else:
            raise OSError(f"the control group {path} vanishes whenever it is made")
        try:
            self.entrance = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._lock)
            with contextlib.suppress(OSError):
                os.rmdir(path)
            raise
        self._open = True

    def remove(self) -> bool:
        """Remove it; ``False`` if it could not be. Whether or not, the lock is given back: the next grader removes it."""
        if self._open:
            self._open = False
            os.close(self.entrance)
            os.close(self._lock)
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def find(proc: Path = PROC, *, as_root: bool | None = None) -> Places | None:
    """Where the caller can make groups that limit memory and processes; ``None``: nowhere, or so it seems.

    What killed graders left there is removed. ``as_root``: look for a place above the caller's own group as well, if
    its processes are in the way (version 2 allows limits only below groups without processes); default: whether the
    caller is root. Other users' groups there are managed by systemd, which is to be asked instead.
    """
    known = list(hierarchies(proc))
    places = _places_2(known, as_root=os.geteuid() == 0 if as_root is None else as_root) or _places_1(known)
    if places is not None:
        for parent in set(places.parents.values()):
            remove_abandoned(parent)
    return places


def hierarchies(proc: Path = PROC) -> Iterator[Hierarchy]:
    """Those that are mounted, with the group of the process ``proc`` in each. Empty where there are none."""
    try:
        mounts, groups = (proc / "mountinfo").read_text(), (proc / "cgroup").read_text()
    except OSError:
        return
    own: dict[frozenset[str], str] = {}
    for line in groups.splitlines():
        _, names, group_path = line.split(":", 2)
        own[frozenset(names.split(",")) - {""}] = group_path
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        place, kind, options = before.split(), after.split()[0], after.split()[-1]
        if kind not in ("cgroup", "cgroup2"):
            continue
        top, root = _unescaped(place[3]), Path(_unescaped(place[4]))
        wanted = next((names for names in own if names and names <= set(options.split(","))), None)
        mounted: frozenset[str] | None = frozenset() if kind == "cgroup2" else wanted
        path = None if mounted is None else own.get(mounted)
        # Containers see a part of the hierarchy only, or another name of their group.
        if mounted is None or path is None or not Path(path).is_relative_to(top):
            continue
        group = root / Path(path).relative_to(top)
        controllers = mounted or frozenset(_words(group / "cgroup.controllers"))
        yield Hierarchy(1 if kind == "cgroup" else 2, root, group, controllers)


def group_of(pid: int) -> Path | None:
    """The folder of the group, version 2, that a process is in."""
    return next((each.own for each in hierarchies(Path("/proc", str(pid))) if each.version == 2), None)


def memory_ran_out(folder: Path) -> bool:
    """Of a group of version 2: whether the kernel ended a process because this very group was at its limit."""
    # oom: how often this group's own limit left no way out; oom_kill also counts when the whole machine had none.
    events = _table(folder / "memory.events")
    return events.get("oom", 0) > 0 and events.get("oom_kill", 0) > 0


def peak_bytes(folder: Path) -> int | None:
    """Of a group of version 2: the most memory it had at once; ``None`` where the kernel does not say (before 5.19)."""
    return _number(folder / "memory.peak")


def members(folder: Path) -> list[int]:
    """Pids of what is in a group; none if it has gone. 0 stands for processes that this namespace does not see."""
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def kill(folder: Path, freezer: _Folder | None = None) -> None:
    """SIGKILL everything in a group. ``freezer``: the same one in version 1's freezer, which keeps it from forking.

    A group that has gone is no error.
    """
    if (folder / "cgroup.kill").exists():
        _write_to_existing(folder / "cgroup.kill", 1)
        return
    state = None if freezer is None else freezer.path / "freezer.state"
    _write_to_existing(state, "FROZEN")
    try:
        killed: set[int] = set()
        for _ in range(_ROUNDS):
            living = {pid for pid in members(folder) if pid > 0} - killed
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= living
            if not living:
                break
    finally:
        _write_to_existing(state, "THAWED")


def remove_abandoned(parent: Path) -> None:
    """End and remove what graders that no longer live left below ``parent``. Living ones hold a lock."""
    try:
        names = [name for name in os.listdir(parent) if name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        folder = parent / name
        with contextlib.suppress(
            OSError
        ):  # it is locked, or has gone, or is still busy: the next one will try again
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kill(folder)
                os.rmdir(folder)
            finally:
                os.close(descriptor)


def _places_2(known: list[Hierarchy], *, as_root: bool) -> Places | None:
    for hierarchy in known:
        if hierarchy.version != 2 or not hierarchy.controllers >= NEEDED:
            continue
        above = [group for group in hierarchy.own.parents if group.is_relative_to(hierarchy.root)]
        for parent in (hierarchy.own, *(above if as_root else ())):
            if os.access(parent, os.W_OK) and (usable := _passed_on(parent)) >= NEEDED:
                return Places(2, dict.fromkeys(sorted(usable & WANTED), parent))
    return None


def _passed_on(parent: Path) -> set[str]:
    """The controllers that groups below ``parent`` have, after an attempt to let them have those that are wanted."""
    control = parent / "cgroup.subtree_control"
    for controller in sorted((WANTED & set(_words(parent / "cgroup.controllers"))) - set(_words(control))):
        with contextlib.suppress(OSError):  # busy: there are processes in it; forbidden: it is not ours
            _write(control, f"+{controller}")
    return set(_words(control))


def _places_1(known: list[Hierarchy]) -> Places | None:
    parents = {
        controller: hierarchy.own
        for hierarchy in known
        if hierarchy.version == 1
        for controller in hierarchy.controllers & (WANTED | {"freezer"})
        if os.access(hierarchy.own, os.W_OK)
    }
    return Places(1, parents) if parents.keys() >= NEEDED else None


def _ran_out_1(folder: Path) -> bool:
    # oom_kill also counts when the whole machine had no memory left. Whether this group met its own limit its failcnt
    # would tell, but new kernels do not keep it. Up to it there may be a batch of pages on each CPU.
    limit, most = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.max_usage_in_bytes")
    met = limit is not None and most is not None and most >= limit - limit // 32
    return met and _table(folder / "memory.oom_control").get("oom_kill", 0) > 0


def _write(path: Path, value: int | str) -> None:
    # Never O_CREAT: what the kernel does not offer must fail.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _write_to_existing(path: Path | None, value: int | str) -> None:
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            _write(path, value)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _table(path: Path) -> dict[str, int]:
    words = _words(path)
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _unescaped(text: str) -> str:
    """A path of mountinfo, where spaces and the like are written as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
