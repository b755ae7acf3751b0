"""Level ``strong``: services in bubblewrap, each world's in a network of its own that leads to its stubs and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from devstack.errors import ServiceDied
from devstack.placement import TREE_MARK, Account, give_up_rights, new_mark
from devstack.stopping import start_process
from grader.errors import SandboxFailed
from grader.sandbox import bubblewrap, kernel, limits, seccomp
from grader.sandbox.bubblewrap import APP, ENVIRONMENT, Bubblewrap, Inside
from grader.sandbox.ground import Ground
from grader.sandbox.network import Network
from grader.sandbox.process import SandboxProcess

FIRST_PORT = 8000
"""Of a room: nobody else listens there, and each further service takes the next one."""


class StrongPlacement:
    """Rooms on a :class:`Ground` that this process has entered."""

    level = "strong"
    control_address = "127.0.0.1"

    def __init__(self, ground: Ground, program: Bubblewrap) -> None:
        self.account: Account | None = ground.server_account
        self._ground = ground
        self._program = ground.show(program.folder) / program.program.relative_to(program.folder)
        self._filter = seccomp.program()

    def close(self) -> None:
        """Remove what lies outside."""
        self._ground.close()

    @asynccontextmanager
    async def room(self) -> AsyncIterator[StrongRoom]:
        """A network of its own. Raises SandboxFailed if it cannot be made."""
        number = self._ground.next_number()
        try:
            network = await asyncio.to_thread(Network, number)
        except Exception as error:
            raise SandboxFailed(f"no network could be made for a sandbox: {error}") from error
        room = StrongRoom(self, network)
        try:
            yield room
        finally:
            await room.close()
            await asyncio.to_thread(network.close)

    def inside(self, source: Path, environment: Path) -> Inside:
        """What a service of ``source`` is given. Raises OSError if the account of services cannot be shown it."""
        base = Path(sys.base_prefix).resolve()
        show = self._ground.show
        # Debian's interpreter is below /usr, which is there anyway.
        shown = {} if base.is_relative_to("/usr") else {str(base): show(base)}
        return Inside(source=show(source), environment=show(environment), shown=shown)

    def command(self, arguments: int, argv: Sequence[str]) -> list[str]:
        """What is executed for a service's own command."""
        return bubblewrap.command(self._program, arguments, argv)

    def preparation(self, network: int, confinement: limits.Confinement) -> Callable[[], None]:
        """What the new process does before bubblewrap takes over.

        It does not ask to die with us: killed while it makes the sandbox, bubblewrap would leave a half-made one.
        """
        account = self._ground.account

        def prepare() -> None:
            confinement.enter()
            kernel.setns(network, kernel.CLONE_NEWNET)
            if account is not None:
                give_up_rights(account.uid, account.gid)

        return prepare

    @property
    def service_account(self) -> Account | None:
        """Whom services run as outside of their user namespace."""
        return self._ground.account

    @property
    def filter(self) -> bytes:
        """The system call filter."""
        return self._filter


class StrongRoom:
    """One world's network, and the sandboxes in it."""

    def __init__(self, placement: StrongPlacement, network: Network) -> None:
        self._placement = placement
        self._network = network
        self._ports = count(FIRST_PORT)
        self._processes: list[SandboxProcess] = []
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
    ) -> SandboxProcess:
        """Start the interpreter ``argv[0]``, which lies in ``bin/`` of its environment, on the sources in ``cwd``.

        Raises SandboxFailed.
        """
        python = Path(argv[0])
        environment = python.parent.parent
        names = {cwd: str(APP), environment: str(ENVIRONMENT), Path(env["HOME"]): bubblewrap.TEMPORARY}
        inner = {name: renamed(value, names) for name, value in env.items()}
        inner["PATH"] = f"{ENVIRONMENT}/bin:/usr/bin:/bin"
        inside = self._placement.inside(cwd, environment)
        mark = new_mark(cwd)
        account = self._placement.service_account
        confinement = limits.confine(mark, account_uid=None if account is None else account.uid)
        try:
            process = await self._start(
                [renamed(part, names) for part in argv],
                inside,
                inner,
                # Bubblewrap's own: this is how the watch tells a service's processes from others.
                {TREE_MARK: mark},
                confinement,
                log,
            )
        except BaseException:
            await confinement.close()
            raise
        self._processes.append(process)
        return process

    async def _start(
        self,
        argv: Sequence[str],
        inside: Inside,
        inner: Mapping[str, str],
        outer: Mapping[str, str],
        confinement: limits.Confinement,
        log: Path,
    ) -> SandboxProcess:
        # Memory, because what is told through a pipe would kill bubblewrap once nobody reads it.
        status = os.memfd_create("status", os.MFD_CLOEXEC)
        waiting, release = os.pipe2(os.O_CLOEXEC)
        opened: list[int] = []
        try:
            opened.append(filter_inside := _pipe_of(self._placement.filter))
            files = {}
            for name, text in bubblewrap.FILES.items():
                opened.append(descriptor := _pipe_of(text.encode()))
                files[name] = descriptor
            options = bubblewrap.arguments(inside, inner, files=files, seccomp=filter_inside, status=status)
            content = b"".join(os.fsencode(option) + b"\0" for option in options)
            opened.append(options_inside := _pipe_of(content))
            process = await start_process(
                *confinement.prefix(),
                *self._placement.command(options_inside, argv),
                cwd="/",
                env=dict(outer),
                stdin=waiting,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
                pass_fds=[*opened, status],
                preexec_fn=self._placement.preparation(self._network.descriptor, confinement),
            )
        except (OSError, subprocess.SubprocessError) as error:
            # The latter is an OSError of what the child does before bubblewrap takes over.
            os.close(status)
            os.close(release)
            raise SandboxFailed(f"bubblewrap could not be started: {error}") from error
        except BaseException:
            os.close(status)
            os.close(release)
            raise
        finally:
            for descriptor in (waiting, *opened):
                os.close(descriptor)
        return await SandboxProcess.adopt(process, status, release, confinement, log)

    async def close(self) -> None:
        """End every sandbox of the room."""
        for process in self._processes:
            with contextlib.suppress(ServiceDied):
                await process.kill_all()


def renamed(text: str, names: Mapping[Path, str]) -> str:
    """``text`` with a path of the host that it is, or begins with, by the name it has inside."""
    for path, name in names.items():
        if text == str(path) or text.startswith(f"{path}/"):
            return name + text[len(str(path)) :]
    return text


def _pipe_of(content: bytes) -> int:
    """The reading end of a pipe that holds ``content`` (at most 64 KiB, what a pipe has room for)."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(writing, False)
        if os.write(writing, content) != len(content):
            raise OSError("the options of a sandbox do not fit into a pipe")
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading
