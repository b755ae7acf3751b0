"""Where control groups are made, on trees that look like the kernel's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from grader.sandbox import control_groups
from grader.sandbox.control_groups import Share

SHARE = Share(memory_bytes=1000, processes=20, cpu_weight=50)
FILES = {
    2: ("cgroup.procs", "memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cgroup.kill"),
    1: (
        "cgroup.procs",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "pids.max",
        "cpu.shares",
        "freezer.state",
    ),
}


class FakeKernel:
    """A folder in which made folders get the files that the kernel gives groups, and which removes them with these."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root / "cgroup"
        self.proc = root / "proc"
        self.proc.mkdir()
        self.root.mkdir()
        self.files = FILES[version]
        self._mkdir, self._rmdir = os.mkdir, os.rmdir

    def mkdir(self, path: str | os.PathLike[str], mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        if Path(path).is_relative_to(self.root) and Path(path).name.startswith(control_groups.PREFIX):
            for name in self.files:
                Path(path, name).write_text("")

    def rmdir(self, path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
        folder = Path(path)
        if folder.is_relative_to(self.root) and not control_groups.members(folder):
            for file in folder.iterdir():
                file.unlink()
        self._rmdir(path, dir_fd=dir_fd)

    def told(self, group: Path) -> dict[str, str]:
        return {name: text for name in self.files if (text := (group / name).read_text())}

    def mounted(self, *mounts: str, groups: str) -> None:
        lines = (f"{40 + place} 30 0:{place} {mount}\n" for place, mount in enumerate(mounts))
        (self.proc / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(lines))
        (self.proc / "cgroup").write_text(groups)

    def group(self, path: str, **files: str) -> Path:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(text)
        return folder


@pytest.fixture
def kernel_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return _fake(tmp_path, monkeypatch, 2)


@pytest.fixture
def kernel_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return _fake(tmp_path, monkeypatch, 1)


def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> FakeKernel:
    kernel = FakeKernel(tmp_path, version)
    monkeypatch.setattr(os, "mkdir", kernel.mkdir)
    monkeypatch.setattr(os, "rmdir", kernel.rmdir)
    return kernel


def unified(kernel: FakeKernel, own: str, top: str = "/") -> None:
    kernel.mounted(f"{top} {kernel.root} rw,nosuid - cgroup2 cgroup2 rw", groups=f"0::{own}\n")


def test_a_group_of_version_2_is_made_below_the_callers_own(kernel_2: FakeKernel) -> None:
    unified(kernel_2, "/user/shell")
    own = kernel_2.group(
        "user/shell", cgroup_controllers="cpu io memory pids", cgroup_subtree_control="cpu memory pids"
    )
    places = control_groups.find(kernel_2.proc)
    assert places is not None
    group = places.make("a", SHARE)
    folder = own / "boxoffice-a"
    assert kernel_2.told(folder) == {
        "memory.max": "1000",
        "memory.swap.max": "0",
        "pids.max": "20",
        "cpu.weight": "50",
    }
    assert group.weighs_cpu
    group.enter()
    assert (folder / "cgroup.procs").read_text() == "0"
    (folder / "cgroup.procs").write_text("")
    group.kill()
    assert (folder / "cgroup.kill").read_text() == "1"
    assert group.remove()
    assert not folder.exists()
    assert group.remove()


def test_without_a_controller_of_the_cpu_groups_hold_memory_and_processes(kernel_2: FakeKernel) -> None:
    unified(kernel_2, "/")
    kernel_2.group("", cgroup_controllers="memory pids", cgroup_subtree_control="memory pids")
    places = control_groups.find(kernel_2.proc)
    assert places is not None
    group = places.make("a", SHARE)
    assert not group.weighs_cpu
    group.remove()


def test_controllers_are_passed_on_where_that_is_allowed(
    kernel_2: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    unified(kernel_2, "/mine")
    own = kernel_2.group("mine", cgroup_controllers="memory pids", cgroup_subtree_control="memory")
    asked = []

    def write(path: Path, value: int | str) -> None:
        asked.append(value)
        path.write_text(f"{path.read_text()} {value}".replace("+", ""))

    monkeypatch.setattr(control_groups, "_write", write)
    places = control_groups.find(kernel_2.proc)
    assert places is not None
    assert set(places.parents.values()) == {own}
    assert asked == ["+pids"]


def test_processes_in_the_way_are_gone_around_by_root_alone(kernel_2: FakeKernel) -> None:
    unified(kernel_2, "/slice/session")
    above = kernel_2.group("slice", cgroup_controllers="memory pids", cgroup_subtree_control="memory pids")
    own = kernel_2.group("slice/session", cgroup_controllers="memory pids")
    (own / "cgroup.subtree_control").mkdir()  # cannot be written
    places = control_groups.find(kernel_2.proc, as_root=True)
    assert places is not None
    assert set(places.parents.values()) == {above}
    assert control_groups.find(kernel_2.proc, as_root=False) is None


def test_a_container_finds_its_group_in_the_part_of_the_tree_that_it_sees(kernel_2: FakeKernel) -> None:
    unified(kernel_2, "/docker/abc/inner", top="/docker/abc")
    own = kernel_2.group("inner", cgroup_controllers="memory pids", cgroup_subtree_control="memory pids")
    places = control_groups.find(kernel_2.proc, as_root=False)
    assert places is not None
    assert set(places.parents.values()) == {own}
    unified(kernel_2, "/elsewhere", top="/docker/abc")
    assert control_groups.find(kernel_2.proc, as_root=True) is None


def test_groups_of_version_1_are_made_in_each_hierarchy(kernel_1: FakeKernel) -> None:
    root = kernel_1.root
    kernel_1.mounted(
        f"/ {root}/memory rw - cgroup cgroup rw,memory",
        f"/ {root}/pids rw - cgroup cgroup rw,pids",
        f"/ {root}/cpu\\040time rw - cgroup cgroup rw,cpu,cpuacct",
        f"/ {root}/freezer rw - cgroup cgroup rw,freezer",
        f"/ {root}/systemd rw - cgroup cgroup rw,name=systemd",
        f"/ {root}/unified rw - cgroup2 cgroup2 rw",
        groups="9:name=systemd:/s\n5:cpu,cpuacct:/c\n4:memory:/m\n3:pids:/\n2:freezer:/\n0::/\n",
    )
    for path in ("memory/m", "pids", "cpu time/c", "freezer", "unified", "systemd/s"):
        kernel_1.group(path)
    places = control_groups.find(kernel_1.proc)
    assert places is not None
    assert places.version == 1
    group = places.make("a", SHARE)
    assert kernel_1.told(root / "memory/m/boxoffice-a") == {
        "memory.limit_in_bytes": "1000",
        "memory.memsw.limit_in_bytes": "1000",
    }
    assert kernel_1.told(root / "pids/boxoffice-a") == {"pids.max": "20"}
    assert kernel_1.told(root / "cpu time/c/boxoffice-a") == {"cpu.shares": "512"}
    group.enter()
    entered = [path.parent.parent.name for path in root.rglob("cgroup.procs") if path.read_text() == "0"]
    assert sorted(entered) == ["c", "freezer", "m", "pids"]
    for path in root.rglob("cgroup.procs"):
        path.write_text("")
    group.kill()
    assert (root / "freezer/boxoffice-a/freezer.state").read_text() == "THAWED"
    assert group.remove()
    assert not list(root.rglob("boxoffice-*"))


def test_where_nothing_is_mounted_there_is_no_place(kernel_2: FakeKernel) -> None:
    kernel_2.mounted(groups="0::/\n")
    assert control_groups.find(kernel_2.proc) is None
    assert control_groups.find(kernel_2.root / "no-proc") is None


def test_a_group_that_cannot_be_limited_leaves_nothing(kernel_2: FakeKernel) -> None:
    unified(kernel_2, "/")
    kernel_2.group("", cgroup_controllers="memory pids", cgroup_subtree_control="memory pids")
    kernel_2.files = ("cgroup.procs", "memory.max")
    places = control_groups.find(kernel_2.proc)
    assert places is not None
    with pytest.raises(FileNotFoundError, match=r"pids\.max"):
        places.make("a", SHARE)
    assert not list(kernel_2.root.glob("boxoffice-*"))


def test_abandoned_groups_are_removed_and_locked_ones_are_not(kernel_2: FakeKernel) -> None:
    living, dead = kernel_2.root / "boxoffice-living", kernel_2.root / "boxoffice-dead"
    os.mkdir(living)
    os.mkdir(dead)
    other = kernel_2.group("somebody-elses")
    descriptor = os.open(living, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        control_groups.remove_abandoned(kernel_2.root)
        assert living.exists()
        assert other.exists()
        assert not dead.exists()
    finally:
        os.close(descriptor)
    control_groups.remove_abandoned(kernel_2.root)
    assert not living.exists()
    control_groups.remove_abandoned(kernel_2.root / "nowhere")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("max 5\noom 1\noom_kill 2\n", True),
        ("max 5\noom 0\noom_kill 2\n", False),  # the machine had none left, and this was the largest
        ("max 5\noom 1\noom_kill 0\n", False),
        ("", False),
    ],
)
def test_memory_ran_out_when_the_group_itself_was_at_its_limit(
    tmp_path: Path, events: str, expected: bool
) -> None:
    (tmp_path / "memory.events").write_text(events)
    assert control_groups.memory_ran_out(tmp_path) is expected
    assert control_groups.peak_bytes(tmp_path) is None


@pytest.mark.parametrize(("most", "kills", "expected"), [(999, 1, True), (500, 1, False), (999, 0, False)])
def test_version_1_tells_it_by_the_most_there_was(
    kernel_1: FakeKernel, most: int, kills: int, expected: bool
) -> None:
    root = kernel_1.root
    kernel_1.mounted(
        f"/ {root}/memory rw - cgroup cgroup rw,memory",
        f"/ {root}/pids rw - cgroup cgroup rw,pids",
        groups="4:memory:/\n3:pids:/\n",
    )
    kernel_1.group("memory")
    kernel_1.group("pids")
    places = control_groups.find(kernel_1.proc)
    assert places is not None
    group = places.make("a", SHARE)
    folder = root / "memory" / "boxoffice-a"
    (folder / "memory.max_usage_in_bytes").write_text(f"{most}\n")
    (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
    assert group.memory_ran_out() is expected
    assert group.peak_bytes() == most
    group.remove()
