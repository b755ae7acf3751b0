"""Level ``container``: services in containers of Docker or Podman, for hosts that allow no user namespaces.

A holder, a container that does nothing, owns the network of a room; the grader, which is root here, lays the cable of
:mod:`grader.sandbox.network` to it. Services run in containers that join the holder's network. The image is empty but for
a few files in ``/etc``: everything else is the host's, read-only, so nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from devstack.placement import TREE_MARK, Account, die_with_parent, new_mark
from devstack.stopping import start_process
from grader.errors import SandboxFailed, SandboxUnavailable
from grader.sandbox import container_init, limits
from grader.sandbox.bubblewrap import APP, ENVIRONMENT, FILES, TEMPORARY
from grader.sandbox.container_process import ContainerProcess
from grader.sandbox.ground import SUBMISSION_ID, Ground
from grader.sandbox.network import Network
from grader.sandbox.strong import FIRST_PORT, renamed

LABEL = "boxoffice-grader"
"""On everything that we make: its value is the grader's pid, by which the next run knows what was left behind."""

_IMAGE = "localhost/boxoffice-grader-empty"
_INIT = "/srv/init.py"
_COMMAND_LIMIT_S = 60.0
_ACCOUNT_PROCESSES = 4096
_SYSTEM = ("lib", "lib64", "lib32", "libx32", "bin", "sbin")


@dataclass(frozen=True)
class Engine:
    """Docker or Podman: the program, further arguments before every command, and its version."""

    program: str
    options: tuple[str, ...]
    version: str

    @property
    def name(self) -> str:
        """``docker`` or ``podman``."""
        return Path(self.program).name


def find() -> Engine:
    """The engine that answers here, Podman first. Raises SandboxUnavailable."""
    reasons = []
    for name in ("podman", "docker"):
        program = shutil.which(name)
        if program is None:
            continue
        # Podman's default runtime may be one that refuses hybrid control groups; runc takes them.
        runc = ("--runtime", "runc") if name == "podman" and shutil.which("runc") else ()
        engine = Engine(program, runc, "")
        try:
            told = run(engine, "version", "--format", "json")
            server = json.loads(told).get("Server") or json.loads(told).get("Client") or {}
            return Engine(program, runc, str(server.get("Version", "unknown")))
        except (SandboxFailed, ValueError) as error:
            reasons.append(f"{name}: {error}")
    raise SandboxUnavailable(
        "; ".join(reasons) or "neither Podman nor Docker is installed",
        hint="on Debian or Ubuntu: apt install podman runc",
    )


def run(engine: Engine, *arguments: str, stdin: bytes | None = None) -> str:
    """Run one command of the engine to its end; what it printed. Raises SandboxFailed with its last line."""
    command = [engine.program, *engine.options, *arguments]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=_COMMAND_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxFailed(f"{engine.name} {arguments[0]} failed: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise SandboxFailed(f"{engine.name} {arguments[0]} failed: {lines[-1]}")
    return done.stdout.decode(errors="replace")


class ContainerPlacement:
    """Rooms made of containers. The ground must be root's."""

    level = "container"
    control_address = "127.0.0.1"

    def __init__(self, ground: Ground, engine: Engine) -> None:
        if ground.server_account is None:
            raise SandboxUnavailable("containers need root: the cable to them is laid by the grader itself")
        self.account: Account | None = ground.server_account
        self.engine = engine
        self._ground = ground
        _remove_abandoned(engine)
        self.image = _imported(engine)

    def close(self) -> None:
        """Remove what lies outside."""
        self._ground.close()

    @asynccontextmanager
    async def room(self) -> AsyncIterator[ContainerRoom]:
        """A holder and a cable to it. Raises SandboxFailed."""
        holder = f"boxoffice-holder-{secrets.token_hex(6)}"
        number = self._ground.next_number()
        init = ("-v", f"{container_init.__file__}:{_INIT}:ro")
        base = _base()
        try:
            await asyncio.to_thread(
                run, self.engine, "run", "--detach", "--name", holder, "--label", f"{LABEL}={os.getpid()}",
                *_confined(holder), "--network", "none", *init, *_system(), *_shown(base), self.image,
                sys.executable if base is None else str(Path(sys.executable).resolve()), "-I", "-S", "-c",
                "import time; time.sleep(86400)",
            )  # fmt: skip
            pid = await asyncio.to_thread(run, self.engine, "inspect", "--format", "{{.State.Pid}}", holder)
            descriptor = os.open(f"/proc/{int(pid)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            network = await asyncio.to_thread(Network, number, descriptor)
            room = ContainerRoom(self.engine, self.image, holder, network)
            try:
                yield room
            finally:
                await room.close()
                await asyncio.to_thread(network.close)
        except OSError as error:
            raise SandboxFailed(f"no network could be made for a container: {error}") from error
        finally:
            with suppress(SandboxFailed):
                await asyncio.to_thread(run, self.engine, "rm", "--force", "--time", "0", holder)


class ContainerRoom:
    """One world's holder, and the containers that joined it."""

    def __init__(self, engine: Engine, image: str, holder: str, network: Network) -> None:
        self._engine = engine
        self._image = image
        self._holder = holder
        self._network = network
        self._ports = count(FIRST_PORT)
        self._processes: list[ContainerProcess] = []
        self.bind_address = network.near
        self.submission_address = network.far

    def address_for_grader(self) -> str:
        """The services' end of the cable."""
        return self._network.far

    def free_port(self) -> int:
        """The next port: the network is empty but for this world's services."""
        return next(self._ports)

    async def spawn(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> ContainerProcess:
        """Start the interpreter ``argv[0]``, which lies in ``bin/`` of its environment, on the sources in ``cwd``.

        Raises SandboxFailed.
        """
        environment = Path(argv[0]).parent.parent
        names = {cwd: str(APP), environment: str(ENVIRONMENT), Path(env["HOME"]): TEMPORARY}
        inner = {name: renamed(value, names) for name, value in env.items()}
        inner["PATH"] = f"{ENVIRONMENT}/bin:/usr/bin:/bin"
        # The engine starts it apart from us: by this the watch tells its processes from others.
        inner[TREE_MARK] = new_mark(cwd)
        name = f"boxoffice-service-{secrets.token_hex(6)}"
        settings = [part for key, value in inner.items() for part in ("--env", f"{key}={value}")]
        command = [
            self._engine.program, *self._engine.options, "run", "--rm", "--name", name,
            "--label", f"{LABEL}={os.getpid()}", *_confined(name), "--network", f"container:{self._holder}",
            "-v", f"{container_init.__file__}:{_INIT}:ro", *_system(), *_shown(_base()),
            "-v", f"{environment}:{ENVIRONMENT}:ro", "-v", f"{cwd}:{APP}:ro", "--workdir", str(APP),
            *settings, self._image,
            f"{ENVIRONMENT}/bin/{Path(argv[0]).name}", "-I", "-S", _INIT,
            *(renamed(part, names) for part in argv),
        ]  # fmt: skip
        try:
            outer = await start_process(
                *command,
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise SandboxFailed(f"{self._engine.name} could not be started: {error}") from error
        process = await ContainerProcess.adopt(self._engine, name, outer, log)
        self._processes.append(process)
        return process

    async def close(self) -> None:
        """End every container of the room."""
        for process in self._processes:
            await process.kill_all()


def _confined(name: str) -> list[str]:
    """Options that take rights and resources away."""
    return [
        "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--user", f"{SUBMISSION_ID}:{SUBMISSION_ID}", "--hostname", "sandbox", "--ipc", "private", "--log-driver", "none",
        "--pids-limit", str(limits.PROCESSES), "--memory", str(limits.MEMORY_BYTES),
        "--memory-swap", str(limits.MEMORY_BYTES), "--cpu-shares", "512",
        # Counted by account over all containers, and the engines' own default may be above what they may set.
        "--ulimit", f"nproc={_ACCOUNT_PROCESSES}:{_ACCOUNT_PROCESSES}",
        "--ulimit", f"nofile={limits.OPEN_FILES}:{limits.OPEN_FILES}",
        "--ulimit", f"fsize={limits.FILE_BYTES}:{limits.FILE_BYTES}", "--ulimit", "core=0:0",
        "--shm-size", str(limits.SHARED_MEMORY_BYTES),
        "--tmpfs", f"{TEMPORARY}:rw,nosuid,nodev,size={limits.TEMPORARY_BYTES},mode=1777",
    ]  # fmt: skip


def _base() -> Path | None:
    base = Path(sys.base_prefix).resolve()
    return None if base.is_relative_to("/usr") else base


def _shown(folder: Path | None) -> list[str]:
    return [] if folder is None else ["-v", f"{folder}:{folder}:ro"]


def _system() -> list[str]:
    """The host's programs and libraries, read-only. Links such as ``/bin`` are in the image."""
    found = ["-v", "/usr:/usr:ro"]
    for name in _SYSTEM:
        place = Path("/", name)
        if place.is_dir() and not place.is_symlink():
            found += ["-v", f"{place}:{place}:ro"]
    for place in (Path("/etc/ld.so.cache"), Path("/etc/localtime"), Path("/etc/ssl/certs")):
        if place.exists():
            found += ["-v", f"{place.resolve()}:{place}:ro"]
    return found


def _imported(engine: Engine) -> str:
    """The name of our image, which is imported unless it is there already; it takes some kilobytes and stays."""
    content = _image()
    name = f"{_IMAGE}:{hashlib.sha256(content).hexdigest()[:12]}"
    try:
        run(engine, "image", "inspect", name)
    except SandboxFailed:
        run(engine, "import", "-", name, stdin=content)
    return name


def _image() -> bytes:
    """A file system with nothing but places to mount at, links as the host has them, and our ``/etc``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        base = _base()
        folders = ["usr", "etc", "etc/ssl", "etc/ssl/certs", "proc", "sys", "dev", "tmp", "srv"]
        folders += [str(place).lstrip("/") for place in (APP, ENVIRONMENT)]
        if base is not None:
            folders += [str(part).lstrip("/") for part in (*reversed(base.parents), base) if str(part) != "/"]
        for name in _SYSTEM:
            place = Path("/", name)
            if place.is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, os.readlink(place)
                archive.addfile(link)
            elif place.is_dir():
                folders.append(name)
        for name in dict.fromkeys(folders):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        places = [_INIT, "/etc/ld.so.cache", "/etc/localtime"]
        for name, text in {**dict.fromkeys(places, ""), **FILES}.items():
            content = text.encode()
            file = tarfile.TarInfo(name.lstrip("/"))
            file.size, file.mode = len(content), 0o444
            archive.addfile(file, io.BytesIO(content))
    return buffer.getvalue()


def _remove_abandoned(engine: Engine) -> None:
    """Remove containers of graders that were killed."""
    listed = run(
        engine,
        "ps",
        "--all",
        "--filter",
        f"label={LABEL}",
        "--format",
        f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}',
    )
    for line in listed.splitlines():
        identifier, _, pid = line.partition(" ")
        if pid.isdigit() and not Path("/proc", pid).exists():
            with suppress(SandboxFailed):
                run(engine, "rm", "--force", "--time", "0", identifier)
