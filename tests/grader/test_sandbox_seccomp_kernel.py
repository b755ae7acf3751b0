"""The filter in this machine's own kernel."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

from grader.sandbox import seccomp
from grader.sandbox.seccomp import RULES
from grader.sandbox.system_calls import NUMBERS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() not in NUMBERS, reason="no table for this architecture"),
]

# Arguments are nonsense, so that no call does anything; no capability is missing, so that a kernel without the filter
# complains of the arguments.
CALLS = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
told = {}
for name, number, arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    told[name + " " + str(arguments)] = errno.errorcode[ctypes.get_errno()] if result == -1 else "done"
    if name == "clone" and result == 0:
        os._exit(0)
print(json.dumps(told))
"""


def in_bubblewrap(
    code: str, *arguments: str, filtered: bool = True, extra: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """``code`` in a sandbox that only has the filter in common with a service's."""
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("bubblewrap is not installed")
    reading, writing = os.pipe()
    os.write(writing, seccomp.program())
    os.close(writing)
    try:
        done = subprocess.run(
            [
                program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent",
                "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
                *extra, *(("--seccomp", str(reading)) if filtered else ()),
                "--", sys.executable, "-I", "-B", "-c", code, *arguments,
            ],
            capture_output=True, text=True, pass_fds=[reading], timeout=60, check=False, cwd="/",
        )  # fmt: skip
    finally:
        os.close(reading)
    if "bwrap:" in done.stderr:
        pytest.skip(f"bubblewrap does not work here: {done.stderr.strip()}")
    return done


def answers(calls: list[tuple[str, tuple[int, ...]]], *, filtered: bool) -> dict[str, str]:
    numbers = NUMBERS[platform.machine()]
    known = [(name, numbers[name], arguments) for name, arguments in calls if name in numbers]
    extra = ("--cap-add", "ALL", "--unshare-net")
    done = in_bubblewrap(CALLS, json.dumps(known), filtered=filtered, extra=extra)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


NONSENSE = (-1, -1, -1, -1, -1)
PLAIN = [(call, NONSENSE) for rule in RULES if not rule.unless for call in rule.calls]
SHAPED = [
    ("clone", (0x1000_0011, 0, 0, 0, 0)),
    ("personality", (0x0004_0000,)),
    ("prctl", (35, -1, -1, -1, -1)),
    ("ioctl", (-1, 0x5412, 0)),
    ("ioctl", (-1, 0x541C, 0)),
    ("ioctl", (-1, 0x5423, 0)),
    ("seccomp", (1, 8, -1)),
    ("socket", (2, 3, 1)),
    ("socket", (17, 3, 0)),
    ("socket", (40, 1, 0)),
    ("socket", (16, 3, 12)),
    ("socketpair", (2, 1, 0, -1)),
]


def test_the_kernel_refuses_every_named_call_even_to_one_who_has_all_capabilities() -> None:
    told = answers([*PLAIN, *SHAPED], filtered=True)
    assert len(told) > 60
    assert {name: error for name, error in told.items() if error != "EPERM"} == {
        f"clone3 {list(NONSENSE)}": "ENOSYS"
    }


def test_without_the_filter_the_same_calls_are_answered_otherwise() -> None:
    """The test of the test: these answers are the filter's doing."""
    told = answers([*PLAIN, *SHAPED], filtered=False)
    others = {name.partition(" ")[0] for name, error in told.items() if error != "EPERM"}
    assert others >= {
        "unshare",
        "setns",
        "clone",
        "mount",
        "ptrace",
        "process_vm_readv",
        "personality",
        "socket",
        "ioctl",
    }


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is x86_64's")
def test_the_kernel_hides_calls_of_the_32_bit_kind() -> None:
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.syscall(ctypes.c_long(0x40000000 | 39)), ctypes.get_errno())"
    )
    done = in_bubblewrap(code)
    assert done.stdout.split() == ["-1", str(errno.ENOSYS)]


def test_threads_processes_sockets_and_shared_memory_work() -> None:
    done = in_bubblewrap(ORDINARY, extra=("--setenv", "TMPDIR", "/dev/shm", "--unshare-net"))
    assert done.stdout.split() == ["fine"], done.stderr


ORDINARY = """
import asyncio, ctypes, multiprocessing, os, resource, signal, socket, subprocess, sys, tempfile, threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory

def double(number):
    return 2 * number

thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
assert subprocess.run([sys.executable, "-I", "-c", "print(7)"], capture_output=True, text=True).stdout == "7\\n"
assert os.waitstatus_to_exitcode(os.system("exit 3")) == 3
a, b = socket.socketpair()
a.sendall(b"x")
assert b.recv(1) == b"x"
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        socket.socket(family, kind).close()
assert socket.if_nameindex()[0][1] == "lo"
with socket.create_server(("127.0.0.1", 0)) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
assert socket.getaddrinfo("127.0.0.1", 80)
os.close(os.memfd_create("x"))
os.close(os.pidfd_open(os.getpid()))
with tempfile.TemporaryDirectory() as folder:
    os.mkfifo(folder + "/fifo")

async def main():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    return await asyncio.to_thread(double, 4)

assert asyncio.run(main()) == 8
lock = multiprocessing.Lock()
counter = multiprocessing.Value("i", 0)
with lock:
    counter.value += 1
memory = shared_memory.SharedMemory(create=True, size=4096)
memory.close()
memory.unlink()
context = multiprocessing.get_context("fork")
with ProcessPoolExecutor(2, mp_context=context) as pool:
    assert list(pool.map(double, range(3))) == [0, 2, 4]
print("fine")
"""
SERVICE = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""
ASKING = """
import os, subprocess, sys, time, urllib.request
os.chdir("/dev/shm")
open("service.py", "w").write(os.environ["SERVICE"])
log = open("log", "w+")
environment = {**os.environ, "PYTHONPATH": "/dev/shm"}
server = subprocess.Popen([sys.executable, "-B", "-m", *sys.argv[1:]], env=environment, stdout=log, stderr=log)
while True:
    try:
        print(urllib.request.urlopen("http://127.0.0.1:8000/", timeout=10).read().decode())
        break
    except OSError:
        if server.poll() is not None:
            sys.exit(open("log").read())
        time.sleep(0.05)
# Not SIGTERM: granian may never end if a worker is still starting. What is left ends with the sandbox.
server.kill()
server.wait()
"""


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("uvicorn", "uvicorn service:app --port 8000 --workers 2 --loop uvloop --lifespan off"),
        ("uvicorn", "uvicorn service:app --port 8000 --loop asyncio --lifespan off"),
        ("granian", "granian service:app --interface asginl --port 8000 --workers 2"),
        ("uvicorn_worker", "gunicorn service:app -b 127.0.0.1:8000 -w 2 -k uvicorn_worker.UvicornWorker"),
    ],
)
def test_servers_work_with_several_processes(package: str, command: str) -> None:
    pytest.importorskip(package)
    extra = ("--unshare-net", "--setenv", "SERVICE", SERVICE)
    done = in_bubblewrap(ASKING, *command.split(), extra=extra)
    assert done.stdout.split() == ["here"], done.stderr


@pytest.mark.parametrize("package", ["asyncpg", "psycopg"])
def test_drivers_can_be_imported_and_fail_for_want_of_a_server_only(package: str) -> None:
    pytest.importorskip(package)
    code = {
        "asyncpg": "import asyncio, asyncpg\nwork = lambda: asyncio.run(asyncpg.connect('postgresql://x:y@127.0.0.1:1/z'))",
        "psycopg": "import psycopg\nwork = lambda: psycopg.connect('postgresql://x:y@127.0.0.1:1/z')",
    }[package]
    done = in_bubblewrap(f"{code}\ntry:\n    work()\nexcept Exception as error:\n    print(error)")
    assert "refused" in done.stdout or "Connect call failed" in done.stdout, done.stderr
