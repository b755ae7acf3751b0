from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.paths import CACHE_VARIABLE, kit_root
from grader import environment
from grader.environment import check_dependencies, locked_versions, prepare
from grader.errors import EnvironmentFailed, SubmissionRefused

LOCK = kit_root() / "requirements" / "service.txt"


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_the_lock_is_read() -> None:
    versions = locked_versions(LOCK)
    assert {"fastapi", "asyncpg", "psycopg-pool", "prometheus-client"} <= set(versions)


@pytest.mark.parametrize("name", ["exercise", "solution"])
def test_the_kits_own_services_get_what_they_ask_for(name: str) -> None:
    check_dependencies(kit_root() / name, LOCK)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", None),
        ('[project]\ndependencies = ["FastAPI", "psycopg[binary,pool]>=3; python_version > \'3\'"]', None),
        ("[project", "pyproject.toml cannot be read: "),
        ("project = 1", "dependencies must be a list of strings"),
        ('[project]\ndependencies = "fastapi"', "dependencies must be a list of strings"),
        ("[project]\ndependencies = [1]", "is not on the allow-list"),
        ('[project]\ndependencies = ["left-pad"]', r"left-pad is not on the allow-list of the brief"),
        ('[project]\ndependencies = ["fastapi<0.1"]', r"fastapi<0.1 does not admit the kit's .*: widen it"),
        ('[project]\ndependencies = ["fastapi @ https://example.com/f.whl"]', "name a released version"),
        ('[project]\ndependencies = ["fast api ="]', "'fast api =' is not a dependency"),
    ],
)
def test_dependencies_are_data(tmp_path: Path, text: str, reason: str | None) -> None:
    source = project(tmp_path, text)
    if reason is None:
        check_dependencies(source, LOCK)
        return
    with pytest.raises(SubmissionRefused, match=reason):
        check_dependencies(source, LOCK)


def test_a_project_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionRefused, match=r"pyproject.toml is missing: restore it"):
        check_dependencies(tmp_path, LOCK)
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SubmissionRefused, match="cannot be read"):
        check_dependencies(tmp_path, LOCK)


# Installing for real takes long and needs the network: a stand-in for uv does what the test says.
# A shell starts it: the interpreter's path may contain spaces, which a #! line cannot.
FAKE_UV = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import os, pathlib, sys, time
with open(os.environ["CALLS"], "a") as calls:
    print(sys.argv[1], file=calls)
if sys.argv[1] == "venv":
    (pathlib.Path(sys.argv[-1]) / "bin").mkdir(parents=True)
    (pathlib.Path(sys.argv[-1]) / "bin" / "python").symlink_to(sys.executable)
if sys.argv[1] == "pip":
    BEHAVIOUR
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a stand-in for uv first on the path, with an empty cache; the file that lists its calls."""

    def install(behaviour: str = "pass") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "uv").write_text(FAKE_UV.replace("BEHAVIOUR", behaviour))
        (folder / "uv").chmod(0o755)
        return tmp_path / "calls"

    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(shutil, "which", lambda name, path: str(tmp_path / "bin" / name))
    project(tmp_path, "")
    return install


def homes(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "environments").iterdir())


async def test_packages_are_installed_once(uv: Callable[..., Path], tmp_path: Path) -> None:
    calls, told = uv(), []
    first = await prepare(tmp_path, told.append)
    second = await prepare(tmp_path, told.append)

    assert first == second
    assert first.python.exists()
    assert calls.read_text().split() == ["venv", "pip"]
    assert told == ["installing the service's packages (once)"]


async def test_an_environment_whose_interpreter_has_gone_is_replaced(
    uv: Callable[..., Path], tmp_path: Path
) -> None:
    uv()
    made = await prepare(tmp_path, lambda _: None)
    made.python.unlink()
    made.python.symlink_to("/no/python")
    assert (await prepare(tmp_path, lambda _: None)).python.exists()
    assert homes(tmp_path) == [made.python.parents[1]]


async def test_a_failed_installation_is_told_with_its_last_line_and_leaves_nothing(
    uv: Callable[..., Path], tmp_path: Path
) -> None:
    uv("sys.exit('resolving\\nno route to host')")
    with pytest.raises(EnvironmentFailed, match=r"failed: no route to host \(is the package index"):
        await prepare(tmp_path, lambda _: None)
    assert homes(tmp_path) == []


async def test_an_interrupted_installation_leaves_nothing(uv: Callable[..., Path], tmp_path: Path) -> None:
    calls = uv("time.sleep(60)")
    installing = asyncio.create_task(prepare(tmp_path, lambda _: None))
    for _ in range(500):
        if calls.exists() and "pip" in calls.read_text():
            break
        await asyncio.sleep(0.02)
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing
    assert homes(tmp_path) == []


async def test_two_runs_may_install_at_the_same_time(uv: Callable[..., Path], tmp_path: Path) -> None:
    uv("home = pathlib.Path(os.environ['CALLS']).parent / 'cache/environments'; "
       "target = home / next(home.iterdir()).name.partition('.')[0]; "
       "(target / 'bin').mkdir(parents=True); (target / 'bin/python').symlink_to(sys.executable)")  # fmt: skip
    made = await prepare(tmp_path, lambda _: None)
    assert made.python.exists()
    assert homes(tmp_path) == [made.python.parents[1]]


async def test_a_cache_that_cannot_be_written_is_told(
    uv: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(
        EnvironmentFailed, match=r"could not be installed in .*: No space left on device; make room there"
    ):
        await prepare(tmp_path, lambda _: None)


async def test_without_uv_the_next_step_is_told(
    uv: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.shutil, "which", lambda *_, **__: None)
    with pytest.raises(EnvironmentFailed, match="run `make setup`"):
        await prepare(tmp_path, lambda _: None)
