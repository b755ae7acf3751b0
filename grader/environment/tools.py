"""Running uv, and whatever else builds an environment, without the caller's secrets and with limits.

uv is told everything by its command line and by a few variables; configuration files count nowhere (``--no-config``,
an empty home, an empty working folder). What the caller has set up to reach an index reaches uv: see
:data:`INDEX_VARIABLES`. uv executes nothing of a package: it gets wheels only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from devstack.paths import cache_directory
from devstack.placement import die_with_parent
from devstack.postmaster import exclusive
from grader.environment.isolation import isolation_prefix
from grader.errors import EnvironmentFailed
from grader.text import one_line

TIME_LIMIT_S = 600.0
"""For one program: a hundred megabytes over a slow line. CPU seconds are limited to the same number."""

FILE_LIMIT_BYTES = 1 << 30
MEMORY_LIMIT_BYTES = 4 << 30
"""Of address space, for programs that read the sources of packages."""

OUTPUT_KEPT_BYTES = 64 * 1024

INDEX_VARIABLES = frozenset(
    {
        "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY",
        "UV_INSECURE_HOST", "UV_OFFLINE", "UV_HTTP_TIMEOUT", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "NETRC",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    }
)  # fmt: skip
"""What of the caller's environment uv sees, besides ``UV_INDEX_<NAME>_USERNAME`` and ``_PASSWORD``: where packages come
from is the caller's to say, and that alone. uv only; nothing that came with a package ever sees it."""

_INDEX_CREDENTIALS = re.compile(r"UV_INDEX_[A-Z0-9_]+_(?:USERNAME|PASSWORD)")
_PREFIX = ".building-"


@dataclass(frozen=True)
class Completed:
    """How a program ended: its exit status (negative: by a signal) and the end of its output."""

    status: int
    output: str

    @property
    def complaint(self) -> str:
        """What it said went wrong, on one line."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        causes = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
        said = [*errors[:1], *causes[-1:]] or lines[-1:]
        if not said:
            return "no output" if self.status >= 0 else f"it was ended by signal {-self.status}"
        return one_line(": ".join(said))


@dataclass(frozen=True)
class Workplace:
    """A folder to build in, held for this run alone: ``folder/result`` is for what is built.

    ``folder/scratch`` is every program's home, working and temporary folder, and has nothing of a submission but what
    the kit itself writes there.
    """

    folder: Path

    @property
    def result(self) -> Path:
        """Where the result is to be; does not exist yet."""
        return self.folder / "result"

    @property
    def scratch(self) -> Path:
        """An empty folder."""
        return self.folder / "scratch"

    async def uv(self, *arguments: str) -> Completed:
        """Run uv in ``scratch``. Raises EnvironmentFailed if it is missing or takes too long."""
        cache = _uv_cache()
        command = [*isolation_prefix(self.folder, cache), find_uv(), "--no-config", *arguments]
        return await self._run(command, _uv_environment(self.scratch, cache))

    async def python(self, *arguments: str) -> Completed:
        """Run the grader's own interpreter, with its standard library alone, no site packages and no network.

        Raises EnvironmentFailed if it takes too long.
        """
        prefix = isolation_prefix(self.folder, self.scratch, network=False)
        command = [*prefix, sys.executable, "-I", "-S", *arguments]
        return await self._run(command, _clean_environment(self.scratch), memory=MEMORY_LIMIT_BYTES)

    async def _run(
        self, command: Sequence[str], environment: dict[str, str], *, memory: int | None = None
    ) -> Completed:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.scratch,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_limited(memory),
        )
        output = bytearray()
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                await _read(process, output)
                status = await process.wait()
        except TimeoutError as error:
            raise EnvironmentFailed(
                f"installing the service's packages took longer than {TIME_LIMIT_S:.0f} s: try again"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
                # Until all that it started has gone: the folder must not change any more when this returns.
                await _read(process, output)
        return Completed(status, output.decode("utf-8", "replace"))


@contextlib.asynccontextmanager
async def workplace(parent: Path, progress: Callable[[str], None]) -> AsyncIterator[Workplace]:
    """A workplace below ``parent``, which is made if missing. One at a time: others wait.

    What killed runs left there is removed. Raises EnvironmentFailed if the disk does not let it be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        parent.chmod(0o755)  # whatever the umask: other accounts run what is in there
        lock = parent.with_name(f"{parent.name}.lock")
        async with exclusive(lock, lambda: progress("waiting for a run that installs packages")):
            for leftover in parent.glob(f"{_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            place = Workplace(Path(mkdtemp(prefix=_PREFIX, dir=parent)))
            try:
                place.scratch.mkdir(mode=0o700)
                yield place
            finally:
                shutil.rmtree(place.folder, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFailed(
            f"the service's packages could not be installed in {parent}: {error.strerror or error}; make room there"
        ) from error


def find_uv() -> str:
    """The uv beside the grader, else the one on the path. Raises EnvironmentFailed."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise EnvironmentFailed("uv is not installed beside the grader: run `make setup`")
    return os.path.abspath(found)


async def _read(process: asyncio.subprocess.Process, output: bytearray) -> None:
    assert process.stdout is not None
    while chunk := await process.stdout.read(OUTPUT_KEPT_BYTES):
        output += chunk
        del output[:-OUTPUT_KEPT_BYTES]


def _clean_environment(scratch: Path) -> dict[str, str]:
    home = str(scratch)
    return {"PATH": os.defpath, "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}


def _uv_environment(scratch: Path, cache: Path) -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in INDEX_VARIABLES or _INDEX_CREDENTIALS.fullmatch(name)
    }
    return {
        **_clean_environment(scratch),
        **passed,
        "UV_CACHE_DIR": str(cache),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
    }


def _uv_cache() -> Path:
    """The caller's cache of uv, so that what `make setup` downloaded is not downloaded again; else one of the kit's.

    The caller's counts only if it is theirs alone to write: with ``sudo`` the home may be somebody else's.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    theirs = Path(os.environ.get("UV_CACHE_DIR") or f"{base}/uv").absolute()
    with contextlib.suppress(OSError):
        found = theirs.stat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return theirs.resolve()
    ours = cache_directory() / "uv"
    ours.mkdir(mode=0o700, exist_ok=True)
    return ours


def _limited(memory: int | None) -> Callable[[], None]:
    """What the new process does before it becomes the program: limits, an end with the grader, a known umask."""
    wanted = {
        resource.RLIMIT_FSIZE: FILE_LIMIT_BYTES,
        resource.RLIMIT_CPU: int(TIME_LIMIT_S),
        resource.RLIMIT_CORE: 0,
    }
    if memory is not None:
        wanted[resource.RLIMIT_AS] = memory
    limits = {what: _at_most(limit, resource.getrlimit(what)[1]) for what, limit in wanted.items()}

    grader = os.getpid()

    def prepare_process() -> None:
        die_with_parent(grader)
        os.umask(0o022)
        for what, limit in limits.items():
            resource.setrlimit(what, (limit, limit))

    return prepare_process


def _at_most(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)
