"""Preparing an environment, with a stand-in for uv."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devstack.paths import CACHE_VARIABLE, kit_root
from grader.environment import ServiceEnvironment, check_dependencies, locked_versions, prepare, tools
from grader.errors import EnvironmentFailed, SubmissionRefused, UsageError

LOCK = kit_root() / "requirements" / "service.txt"
NOBODY_LISTENS: Callable[[str], None] = lambda _: None  # noqa: E731


def project(tmp_path: Path, *dependencies: str) -> Path:
    source = tmp_path / "submission"
    source.mkdir(exist_ok=True)
    (source / "pyproject.toml").write_text(f"[project]\ndependencies = {json.dumps(dependencies)}\n")
    return source


def test_the_lock_is_read() -> None:
    versions = locked_versions(LOCK)
    assert {"fastapi", "asyncpg", "psycopg-pool", "prometheus-client"} <= set(versions)


@pytest.mark.parametrize("name", ["exercise", "solution"])
def test_the_kits_own_services_get_what_they_ask_for(name: str) -> None:
    assert check_dependencies(kit_root() / name, LOCK)


# Installing for real takes long and needs the network: a stand-in for uv does what the test says.
# A shell starts it: the interpreter's path may contain spaces, which a #! line cannot.
FAKE_UV = f"""#!/bin/sh
"exec" "{sys.executable}" "-I" "-S" "$0" "$@"
import json, os, pathlib, sys, time
folder = pathlib.Path({{folder!r}})
arguments = sys.argv[1:]
with open(folder / "calls", "a") as calls:
    environment = dict(os.environ)
    print(json.dumps(dict(arguments=arguments, environment=environment, cwd=os.getcwd())), file=calls)
if "venv" in arguments:
    (pathlib.Path(arguments[-1]) / "bin").mkdir(parents=True)
    (pathlib.Path(arguments[-1]) / "bin" / "python").symlink_to(sys.executable)
if "compile" in arguments:
    output = pathlib.Path(arguments[arguments.index("--output-file") + 1])
    output.write_text("left-pad==1.3 \\\\\\n    --hash=sha256:" + 64 * "0" + "\\n")
if {{operation!r}} in arguments:
    {{behaviour}}
"""


class Uv:
    """The stand-in: behaves as told when it is to install (or ``operation``), and remembers its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def behave(self, behaviour: str = "pass", operation: str = "install") -> None:
        text = FAKE_UV.format(folder=str(self.folder), operation=operation, behaviour=behaviour)
        (self.folder / "bin").mkdir(exist_ok=True)
        (self.folder / "bin" / "uv").write_text(text)
        (self.folder / "bin" / "uv").chmod(0o755)

    @property
    def calls(self) -> list[dict[str, Any]]:
        calls = self.folder / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def operations(self) -> list[str]:
        return [next(name for name in call["arguments"] if name in OPERATIONS) for call in self.calls]


OPERATIONS = ("venv", "compile", "install")


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uv:
    """A stand-in for uv instead of the real one, with an empty cache."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(tools.shutil, "which", lambda name, path: str(tmp_path / "bin" / name))
    monkeypatch.setattr(tools, "isolation_prefix", lambda *_, **__: [])
    stand_in = Uv(tmp_path)
    stand_in.behave()
    return stand_in


def homes(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "environments").iterdir())


async def test_packages_are_installed_once(uv: Uv, tmp_path: Path) -> None:
    told: list[str] = []
    first = await prepare(project(tmp_path), told.append)
    second = await prepare(project(tmp_path, "fastapi"), told.append)

    assert first == second
    assert first.python.exists()
    assert first.home == first.python.parents[1]
    assert first.packages["fastapi"] == str(locked_versions(LOCK)["fastapi"])
    assert uv.operations == ["venv", "install"]
    assert told == ["installing the service's packages (once)"]


async def test_a_permitted_package_is_resolved_once_and_gets_an_environment_of_its_own(
    uv: Uv, tmp_path: Path
) -> None:
    told: list[str] = []
    source = project(tmp_path, "fastapi", "Left_Pad[b,a]<2,>=1")
    first = await prepare(source, told.append, allowed=["left.pad"])
    assert first == await prepare(source, told.append, allowed=["left.pad"])

    assert uv.operations == ["venv", "install", "compile", "venv", "install"]
    assert first.packages["left-pad"] == "1.3"
    assert first.packages["fastapi"] == str(locked_versions(LOCK)["fastapi"])
    kit = await prepare(project(tmp_path, "fastapi"), told.append, allowed=["left.pad"])
    assert "left-pad" not in kit.packages
    assert kit.home != first.home
    assert kit.digest != first.digest
    assert told.count("resolving packages that the kit does not have (once)") == 1


async def test_a_package_that_nobody_permitted_is_refused_before_anything_is_started(
    uv: Uv, tmp_path: Path
) -> None:
    with pytest.raises(SubmissionRefused, match="left-pad is not on the allow-list"):
        await prepare(project(tmp_path, "left-pad"), NOBODY_LISTENS, allowed=["right-pad"])
    assert uv.calls == []


@pytest.mark.parametrize(
    "name", ["", "-e", "left pad", "left-pad==1", "left-pad[x]", "../x", "a" * 101, "kit\u212a"]
)
async def test_what_is_permitted_is_a_name_and_nothing_else(uv: Uv, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"--allow .*: not the name of a package"):
        await prepare(project(tmp_path), NOBODY_LISTENS, allowed=[name])


async def test_versions_that_do_not_fit_are_the_submissions_trouble(uv: Uv, tmp_path: Path) -> None:
    uv.behave(
        "sys.exit('error: No solution found when resolving dependencies\\n  cause: Because so\\n\\nhint: x')",
        "compile",
    )
    with pytest.raises(
        SubmissionRefused, match=r"left-pad cannot be had beside the kit's packages: Because so$"
    ):
        await prepare(project(tmp_path, "left-pad"), NOBODY_LISTENS, allowed=["left-pad"])


async def test_an_index_that_cannot_be_reached_is_our_trouble_and_nothing_is_remembered(
    uv: Uv, tmp_path: Path
) -> None:
    uv.behave(
        "sys.exit('error: Failed to fetch: x\\n  cause: a\\n  cause: no route to host\\n\\nhint: y')",
        "compile",
    )
    with pytest.raises(
        EnvironmentFailed, match=r"failed: Failed to fetch: x: no route to host \(is the package"
    ):
        await prepare(project(tmp_path, "left-pad"), NOBODY_LISTENS, allowed=["left-pad"])
    assert list((tmp_path / "cache" / "locks").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "left-pad==1.3",
        "left-pad @ file:///x",
        "--index-url=x",
        "fastapi==0.0.1 \\\n    --hash=sha256:" + "0" * 64,
    ],
)
async def test_a_resolution_that_is_no_lock_beside_the_kits_is_not_used(
    uv: Uv, tmp_path: Path, text: str
) -> None:
    uv.behave(f"output.write_text({text!r})", "compile")
    with pytest.raises(EnvironmentFailed, match="the index's answer cannot be used: "):
        await prepare(project(tmp_path, "left-pad"), NOBODY_LISTENS, allowed=["left-pad"])
    assert uv.operations == ["venv", "install", "compile"]


async def test_uv_sees_how_to_reach_the_index_and_no_secret(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.example")
    monkeypatch.setenv("UV_INDEX_HOUSE_PASSWORD", "for-the-index")
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "UV_PUBLISH_TOKEN",
        "UV_CONFIG_FILE",
        "UV_NO_VERIFY_HASHES",
        "PYTHONPATH",
    ):
        monkeypatch.setenv(name, "secret")
    await prepare(project(tmp_path, "left-pad"), NOBODY_LISTENS, allowed=["left-pad"])
    assert len(uv.calls) == 5
    for call in uv.calls:
        environment = call["environment"]
        assert environment["UV_DEFAULT_INDEX"] == "https://index.example"
        assert environment["UV_INDEX_HOUSE_PASSWORD"] == "for-the-index"
        assert "secret" not in environment.values()
        assert environment["HOME"] == call["cwd"] != str(Path.home())
        assert Path(call["cwd"]).name == "scratch"
        assert call["arguments"][0] == "--no-config"


async def test_the_submissions_other_files_are_not_looked_at(uv: Uv, tmp_path: Path) -> None:
    source = project(tmp_path, "fastapi")
    (source / "requirements.txt").write_text("--no-binary :all:\n-e .\n")
    (source / "uv.toml").write_text('index-url = "https://evil.example"\n')
    (source / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    await prepare(source, NOBODY_LISTENS)
    assert not (tmp_path / "ran").exists()
    assert not any(str(source) in json.dumps(call) for call in uv.calls)


async def test_an_environment_whose_interpreter_has_gone_is_replaced(uv: Uv, tmp_path: Path) -> None:
    made = await prepare(project(tmp_path), NOBODY_LISTENS)
    made.python.unlink()
    made.python.symlink_to("/no/python")
    assert (await prepare(project(tmp_path), NOBODY_LISTENS)).python.exists()
    assert homes(tmp_path) == [made.home]


async def test_a_failed_installation_is_told_with_its_last_line_and_leaves_nothing(
    uv: Uv, tmp_path: Path
) -> None:
    uv.behave("sys.exit('resolving\\nno route to host')")
    with pytest.raises(EnvironmentFailed, match=r"failed: no route to host \(is the package index"):
        await prepare(project(tmp_path), NOBODY_LISTENS)
    assert homes(tmp_path) == []


async def test_an_installation_that_is_killed_is_told(uv: Uv, tmp_path: Path) -> None:
    uv.behave("os.kill(os.getpid(), 9)")
    with pytest.raises(EnvironmentFailed, match="failed: it was ended by signal 9"):
        await prepare(project(tmp_path), NOBODY_LISTENS)


async def test_an_installation_without_an_end_is_told(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "TIME_LIMIT_S", 1.0)
    uv.behave("time.sleep(600)")
    with pytest.raises(EnvironmentFailed, match="took longer than 1 s: try again"):
        await prepare(project(tmp_path), NOBODY_LISTENS)
    assert homes(tmp_path) == []


async def test_an_interrupted_installation_leaves_nothing_not_even_its_processes(
    uv: Uv, tmp_path: Path
) -> None:
    uv.behave("child = os.fork()\n    time.sleep(600)")
    installing = asyncio.create_task(prepare(project(tmp_path), NOBODY_LISTENS))
    while uv.operations[-1:] != ["install"]:
        assert not installing.done()
        await asyncio.sleep(0.02)
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing  # returns once the output is closed: every process that held it has ended
    assert homes(tmp_path) == []


async def test_runs_that_start_together_install_once(uv: Uv, tmp_path: Path) -> None:
    uv.behave("time.sleep(0.3)")
    told: list[str] = []
    source = project(tmp_path)
    first, second = await asyncio.gather(prepare(source, told.append), prepare(source, told.append))
    assert first == second
    assert uv.operations == ["venv", "install"]
    assert told == ["installing the service's packages (once)", "waiting for a run that installs packages"]


async def test_what_a_killed_run_left_is_removed_by_the_next_one(uv: Uv, tmp_path: Path) -> None:
    left = tmp_path / "cache" / "environments" / ".building-left"
    (left / "result" / "bin").mkdir(parents=True)
    made = await prepare(project(tmp_path), NOBODY_LISTENS)
    assert homes(tmp_path) == [made.home]


async def test_a_cache_that_cannot_be_written_is_told(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(
        EnvironmentFailed, match=r"could not be installed in .*: No space left on device; make room there"
    ):
        await prepare(project(tmp_path), NOBODY_LISTENS)


async def test_without_uv_the_next_step_is_told(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda *_, **__: None)
    with pytest.raises(EnvironmentFailed, match="run `make setup`"):
        await prepare(project(tmp_path), NOBODY_LISTENS)


def test_an_environment_can_be_a_key(tmp_path: Path) -> None:
    made = ServiceEnvironment(tmp_path / "bin" / "python", "0", tmp_path, {})
    assert {made: 1}[made] == 1
