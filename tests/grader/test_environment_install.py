"""Installing for real, by uv, from wheels made here: no index is asked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from devstack.paths import CACHE_VARIABLE
from grader.environment import tools
from grader.environment.installing import provide
from grader.environment.isolation import isolation_prefix
from grader.environment.locks import installable_versions
from grader.environment.resolving import resolve
from grader.environment.tools import workplace
from grader.errors import EnvironmentFailed, SubmissionRefused

pytestmark = pytest.mark.integration


def say_nothing(_: str) -> None:
    pass


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is to install from, and empty caches."""
    wheels = tmp_path / "wheels"
    cache = tmp_path / "cache"
    wheels.mkdir()
    cache.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_OFFLINE", "1")
    return wheels


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def wheel(folder: Path, name: str, version: str, *needs: str, files: Mapping[str, str] | None = None) -> str:
    """Write a wheel. Returns its lines in a lock."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    contents = {
        f"{name}/__init__.py": "",
        **(files or {}),
        f"{info}/METADATA": "\n".join([*metadata, *(f"Requires-Dist: {need}" for need in needs), ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={checksum(text)},{len(text)}\n" for path, text in contents.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in {**contents, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(place, text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def checksum(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def source_distribution(folder: Path, name: str, version: str, setup: str) -> None:
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for place, text in {"setup.py": setup, "PKG-INFO": metadata}.items():
            member = tarfile.TarInfo(f"{name}-{version}/{place}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.mark.usefixtures("narrow_umask")
@pytest.mark.parametrize("isolated", [True, False])
async def test_nothing_of_a_package_is_executed_and_all_of_it_is_readable_and_nobodys_to_write(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    if not isolated:  # what runs could then write anywhere
        monkeypatch.setattr(tools, "isolation_prefix", lambda *_, **__: [])
    ran = tmp_path / "cache" / "uv" / "ran"  # where uv may write in any case
    touch = f"open({str(ran)!r}, 'w')"
    text = wheel(
        index, "hostile", "1.0",
        files={
            "hostile.pth": f"import sys; {touch}\n",
            "sitecustomize.py": touch,
            "usercustomize.py": touch,
            "encodings/__init__.py": touch,
            "compileall.py": touch,
            "hostile/data.py": f"{touch}\n",
            "hostile/template.py": "{% no Python %}",
            "hostile-1.0.data/scripts/pip": f"#!python\n{touch}\n",
        },
    )  # fmt: skip
    home = tmp_path / "cache" / "environments" / "key"
    await provide(text, home, say_nothing)
    site = next(home.glob("lib/python*/site-packages"))

    assert not ran.exists()
    assert Path(importlib.util.cache_from_source(str(site / "hostile" / "data.py"))).exists()
    assert [path.name for path in home.parent.iterdir()] == ["key"]
    for path in [home, *home.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode & 0o777
            assert mode == 0o755 if path.is_dir() else mode in (0o444, 0o555), path

    started = await asyncio.create_subprocess_exec(home / "bin" / "python", "-I", "-c", "")
    await started.wait()
    assert ran.exists(), "it would have shown itself"


@pytest.mark.parametrize("name", ["python", "python3", "activate"])
async def test_a_package_that_replaces_a_part_of_the_environment_is_refused(
    tmp_path: Path, index: Path, name: str
) -> None:
    text = wheel(index, "trojan", "1.0", files={f"trojan-1.0.data/scripts/{name}": "#!/bin/sh\n"})
    home = tmp_path / "cache" / "environments" / "key"
    with pytest.raises(EnvironmentFailed) as failure:
        await provide(text, home, say_nothing)
    assert name in str(failure.value)
    assert list(home.parent.iterdir()) == []


async def test_a_wheel_that_is_not_the_locked_one_is_not_installed(tmp_path: Path, index: Path) -> None:
    text = wheel(index, "package", "1.0")
    wheel(index, "package", "1.0", files={"package/more.py": "1"})
    with pytest.raises(EnvironmentFailed, match=r"(?i)hash mismatch"):
        await provide(text, tmp_path / "cache" / "environments" / "key", say_nothing)


async def test_what_is_permitted_brings_what_it_depends_on_at_versions_that_fit_the_kits(index: Path) -> None:
    kit = wheel(index, "kitpart", "1.0")
    wheel(index, "kitpart", "2.0")
    wheel(index, "lib", "1.0", "kitpart>=1", "deep")
    wheel(index, "lib", "2.0", "kitpart>=2")
    wheel(index, "deep", "3.0")
    text = await resolve([Requirement("lib")], kit, say_nothing)
    assert {name: str(version) for name, version in installable_versions(text).items()} == {
        "kitpart": "1.0",
        "lib": "1.0",
        "deep": "3.0",
    }
    assert text.startswith(kit)

    (index / "deep-3.0-py3-none-any.whl").unlink()
    assert await resolve([Requirement("LIB")], kit, say_nothing) == text  # from the cache
    with pytest.raises(SubmissionRefused, match=r"lib>=2 cannot be had beside the kit's packages: .*kitpart"):
        await resolve([Requirement("lib>=2")], kit, say_nothing)


async def test_sources_are_never_built(tmp_path: Path, index: Path) -> None:
    kit = wheel(index, "kitpart", "1.0")
    ran = tmp_path / "ran"
    source_distribution(index, "hostile", "1.0", f"open({str(ran)!r}, 'w')")
    with pytest.raises(SubmissionRefused, match="hostile cannot be had beside the kit's packages"):
        await resolve([Requirement("hostile")], kit, say_nothing)
    text = f"hostile==1.0 \\\n    --hash=sha256:{hashlib.sha256((index / 'hostile-1.0.tar.gz').read_bytes()).hexdigest()}\n"
    with pytest.raises(EnvironmentFailed, match="hostile"):
        await provide(text, tmp_path / "cache" / "environments" / "key", say_nothing)
    assert not ran.exists()


async def test_configuration_where_the_grader_is_started_does_not_count(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = wheel(index, "kitpart", "1.0")
    wheel(index, "lib", "1.0")
    for name in ("uv.toml", "pyproject.toml"):
        (tmp_path / name).write_text("this is no TOML")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text("nor is this")
    assert "lib==1.0" in await resolve([Requirement("lib")], kit, say_nothing)


async def test_a_version_that_uv_cannot_read_is_the_submissions_trouble(index: Path) -> None:
    kit = wheel(index, "kitpart", "1.0")
    with pytest.raises(SubmissionRefused, match="cannot be had beside the kit's packages"):
        await resolve([Requirement("lib==" + "9" * 30)], kit, say_nothing)


@pytest.fixture
def meddling_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in uv's place that does what a subverted uv might."""
    program = tmp_path / "uv"
    monkeypatch.setattr(tools, "find_uv", lambda: str(program))
    return program


def script(program: Path, text: str) -> None:
    program.write_text(f'#!/bin/sh\n"exec" "{sys.executable}" "-I" "-S" "$0" "$@"\n{text}')
    program.chmod(0o755)


async def test_the_installer_writes_nowhere_else_and_sees_no_other_process(
    tmp_path: Path, meddling_uv: Path
) -> None:
    if not isolation_prefix(tmp_path, tmp_path):
        pytest.skip("bubblewrap does not work here")
    outside = tmp_path / "outside"
    script(
        meddling_uv,
        f"""import os
open("inside", "w").close()
for act in (lambda: open({str(outside)!r}, "w"), lambda: os.kill({os.getpid()}, 0)):
    try:
        act()
        print("done")
    except OSError as error:
        print(type(error).__name__)
print(os.listdir("/run") if os.path.exists("/run/docker.sock") else "no socket")
""",
    )
    async with workplace(tmp_path / "cache" / "environments", say_nothing) as place:
        completed = await place.uv()
        assert (place.scratch / "inside").exists()
    assert completed.output.split("\n")[:3] == ["OSError", "ProcessLookupError", "no socket"]
    assert not outside.exists()


async def test_what_the_installer_leaves_running_ends_when_the_installation_is_cancelled(
    tmp_path: Path, meddling_uv: Path
) -> None:
    script(
        meddling_uv,
        "import os, time\nos.fork()\nopen(f'started-{os.getpid()}', 'w').close()\ntime.sleep(600)\n",
    )
    parent = tmp_path / "cache" / "environments"

    async def build() -> None:
        async with workplace(parent, say_nothing) as place:
            await place.uv()

    building = asyncio.create_task(build())
    while len(list(parent.glob("*/scratch/started-*"))) < 2:
        assert not building.done()
        await asyncio.sleep(0.02)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert list(parent.iterdir()) == []


_KILLED = """
import asyncio, sys
from pathlib import Path
from grader.environment import tools

tools.find_uv = lambda: sys.argv[1]
async def build():
    async with tools.workplace(Path(sys.argv[2]), print) as place:
        await place.uv()
asyncio.run(build())
"""


async def test_the_installer_dies_with_a_grader_that_is_killed_and_the_next_run_clears_up(
    tmp_path: Path, meddling_uv: Path
) -> None:
    parent = tmp_path / "cache" / "environments"
    alive = tmp_path / "pipe"
    os.mkfifo(alive)
    script(meddling_uv, f"import time\npipe = open({str(alive)!r}, 'w')\ntime.sleep(600)\n")
    grader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, str(meddling_uv), str(parent)
    )
    try:
        with await asyncio.to_thread(open, alive) as pipe:  # opens when the installer has started
            grader.kill()
            await grader.wait()
            assert await asyncio.to_thread(pipe.read) == ""  # ends when the installer has
    finally:
        if grader.returncode is None:
            grader.kill()
        await grader.wait()
    assert len(list(parent.iterdir())) == 1
    async with workplace(parent, say_nothing) as place:
        assert list(parent.iterdir()) == [place.folder]
