"""A lock with hashes → an environment: built aside, then renamed; nothing of its packages is executed.

uv asks the environment's interpreter what it is while the environment is still empty, and never afterwards: a ``.pth``
file of a package would run at the interpreter's start, under ``-I`` as well. Byte code is therefore compiled by the
grader's own interpreter, and not by uv, which would start the environment's.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from grader.environment.tools import Completed, Workplace, workplace
from grader.errors import EnvironmentFailed


async def provide(lock_text: str, home: Path, progress: Callable[[str], None]) -> None:
    """Make sure that the environment of a lock is at ``home``; installs it if it is not, or if its interpreter has gone.

    Its files are then read-only and its folders the owner's to change, so that the cache can be emptied; all is
    readable for other accounts. The files are copies: nobody who changes them changes uv's cache.

    Raises EnvironmentFailed.
    """
    if _complete(home):
        return
    async with workplace(home.parent, progress) as place:
        if _complete(home):  # another run was faster
            return
        progress("installing the service's packages (once)")
        await _build(place, lock_text)
        if home.exists():  # its interpreter has gone from this machine
            home.rename(place.folder / "replaced")
        place.result.rename(home)


def _complete(home: Path) -> bool:
    return (home / "bin" / "python").exists()


async def _build(place: Workplace, lock_text: str) -> None:
    lock = place.scratch / "lock.txt"
    lock.write_text(lock_text)
    # The environment is used at other paths than this one: in a sandbox, and after the renaming.
    _succeeded(
        await place.uv(
            "venv", "--quiet", "--no-project", "--relocatable", "--python", sys.executable, str(place.result)
        )
    )
    skeleton = _contents(place.result)
    _succeeded(
        await place.uv(
            "pip", "install", "--quiet", "--python", str(place.result / "bin" / "python"), "--require-hashes",
            "--only-binary", ":all:", "--no-deps", "--no-compile-bytecode", "--link-mode", "copy",
            "--requirements", str(lock),
        )
    )  # fmt: skip
    _check_skeleton(place.result, skeleton)
    # Its exit status does not count: packages may have files that are templates, or for another Python.
    await place.python(
        "-m",
        "compileall",
        "-qq",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        str(place.result / "lib"),
    )
    _seal(place.result)


def _succeeded(completed: Completed) -> None:
    if completed.status:
        raise EnvironmentFailed(
            f"installing the service's packages failed: {completed.complaint}"
            " (is the package index reachable? UV_DEFAULT_INDEX names another one)"
        )


def _contents(home: Path) -> Mapping[Path, bytes]:
    """What each link leads to and each file holds."""
    found = {}
    for path in _everything(home):
        if path.is_symlink():
            found[path] = os.fsencode(os.readlink(path))
        elif path.is_file():
            found[path] = path.read_bytes()
    return found


def _check_skeleton(home: Path, skeleton: Mapping[Path, bytes]) -> None:
    """No package may replace the interpreter or another part of the empty environment, or bring a link."""
    for path, content in skeleton.items():
        now = os.fsencode(os.readlink(path)) if path.is_symlink() else path.is_file() and path.read_bytes()
        if now != content:
            raise _unwanted(path.relative_to(home), "replaces")
    for path in _everything(home):
        if path.is_symlink() and path not in skeleton:
            raise _unwanted(path.relative_to(home), "brings the link")


def _unwanted(path: Path, does: str) -> EnvironmentFailed:
    return EnvironmentFailed(f"a package {does} {path} in its environment: do not permit it with --allow")


def _seal(home: Path) -> None:
    home.chmod(0o755)
    for path in _everything(home):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            path.chmod(0o755)
        elif stat.S_ISREG(mode):
            path.chmod(0o555 if mode & stat.S_IXUSR else 0o444)
        elif not stat.S_ISLNK(mode):
            raise _unwanted(path.relative_to(home), "brings the special file")


def _everything(home: Path) -> list[Path]:
    """All below ``home``; links are not followed."""
    return [
        Path(folder, name)
        for folder, folders, files in os.walk(home, followlinks=False)
        for name in (*folders, *files)
    ]
