"""Level strong, for real: what a process inside can see and do, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grader.errors import SandboxUnavailable
from grader.sandbox.levels import choose

pytestmark = [pytest.mark.integration]
PROBE = Path(__file__).with_name("sandbox_probe.py")


@pytest.fixture(scope="module", autouse=True)
def works() -> None:
    try:
        choose("strong")
    except SandboxUnavailable as error:
        pytest.skip(f"no strong sandbox on this machine: {error}")


def inside(*sources: str) -> list[dict[str, Any]]:
    """What came of each source, run one after the other in one room."""
    done = subprocess.run(
        [sys.executable, str(PROBE), "strong", *sources],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(source: str) -> list[str]:
    (result,) = inside(source)
    assert result["status"] == 0, result
    lines: list[str] = result["told"]
    return lines


def test_a_process_inside_is_nobody_special_and_alone() -> None:
    lines = told(
        "import os;"
        "print(os.getuid(), os.getgid(), os.getgroups());"
        "print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit())[:1], len([n for n in os.listdir('/proc') if n.isdigit()]));"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapBnd', 'Seccomp:', 'NoNewPrivs'))])"
    )
    assert lines[0].startswith("1000 1000")
    assert lines[1] == "[1] 2"
    assert lines[2] == "['0000000000000000', '0000000000000000', '1', '2']"


def test_the_graders_environment_files_and_arguments_are_not_there() -> None:
    lines = told(
        "import os\n"
        "seen = b''\n"
        "for pid in os.listdir('/proc'):\n"
        "    for name in ('environ', 'cmdline', 'maps'):\n"
        "        try: seen += open(f'/proc/{pid}/{name}', 'rb').read()\n"
        "        except OSError: pass\n"
        "print(b'do-' b'not-tell' in seen, b'--set' b'env' in seen)\n"
        "print([p for p in ('/etc/shadow', '/home', '/var', '/run', '/work', '/tmp/pytest-of-root', '/sys') if os.path.exists(p)])\n"
        "print(sorted(int(d) for d in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n"
    )
    assert lines == ["False False", "[]", "[0, 1, 2] 4"]


def test_nothing_but_memory_can_be_written_and_not_much_of_it() -> None:
    lines = told(
        "import os\n"
        "for place in ('/', '/srv/app', '/srv/environment', '/usr', '/dev', '/etc', '/srv'):\n"
        "    try: open(place + '/x', 'w'); print('wrote', place)\n"
        "    except OSError as error: pass\n"
        "for place in ('/tmp', '/dev/shm'):\n"
        "    written = 0\n"
        "    try:\n"
        "        for n in range(4):\n"
        "            with open(f'{place}/{n}', 'wb') as file:\n"
        "                for _ in range(200): written += file.write(b'x' * 1_000_000)\n"
        "    except OSError as error: print(place, error.strerror, written // 2**20)\n"
    )
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        "/tmp No space left on device",
        "/dev/shm No space left on device",
    ]
    assert int(lines[0].split()[-1]) <= 256
    assert int(lines[1].split()[-1]) <= 64


def test_only_the_stubs_end_of_the_cable_can_be_reached() -> None:
    lines = told(
        "import os, socket\n"
        "def reach(name, address, family=socket.AF_INET):\n"
        "    try:\n"
        "        with socket.socket(family) as s: s.settimeout(3); s.connect(address); print(name, 'reached')\n"
        "    except OSError as error: print(name, error.strerror)\n"
        "split = lambda text: (text.rpartition(':')[0], int(text.rpartition(':')[2]))\n"
        "reach('stub', split(os.environ['STUB']))\n"
        "reach('control', split(os.environ['CONTROL']))\n"
        "reach('metadata', ('169.254.169.254', 80))\n"
        "reach('elsewhere', ('192.0.2.1', 80))\n"
        "reach('other room', ('10.77.0.9', 80))\n"
        "reach('abstract', '\\0anything', socket.AF_UNIX)\n"
    )
    assert lines == [
        "stub reached",
        "control Connection refused",
        "metadata Network is unreachable",
        "elsewhere Network is unreachable",
        "other room Network is unreachable",
        "abstract Connection refused",
    ]


def test_a_daemon_dies_with_its_room_and_processes_of_before_are_not_seen() -> None:
    daemon = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait(); print('main ends')\n"
    )
    first, second = inside(daemon, "import os; print(len([n for n in os.listdir('/proc') if n.isdigit()]))")
    assert (first["status"], first["members"], first["told"]) == (0, 0, ["main ends"])
    assert second["told"] == ["2"]


def test_an_end_by_a_signal_and_an_exit_status_are_told_as_such() -> None:
    killed, exited = inside("import os; os.kill(os.getpid(), 9)", "raise SystemExit(3)")
    assert killed["status"] == -9
    assert exited["status"] == 3


def test_the_memory_limit_ends_a_service_and_says_so() -> None:
    (bomb,) = inside(
        "kept = []\nfor _ in range(60): kept.append(bytearray(b'x' * (50 * 2**20)))\nprint('survived')"
    )
    assert bomb["told"] != ["survived"]
    assert bomb["status"] not in (0, None)
    assert "MiB" in (bomb["exceeded"] or "")


@pytest.mark.parametrize(
    "inner", [False, True], ids=["as-soon-as-anything-is-seen", "while-the-service-runs"]
)
def test_nothing_stays_when_the_grader_is_killed(tmp_path: Path, inner: bool) -> None:
    source = f"import time; print('up'); time.sleep(300)  # {tmp_path}"
    process = subprocess.Popen(
        [sys.executable, str(PROBE), "strong", source],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        marked = _wait_for(lambda: _processes(source, inner=inner) - {process.pid})
        assert marked, "the service inside was never seen"
    finally:
        process.kill()
        process.wait()
    # A process that is just being executed has no command line, so once is not enough.
    assert _wait_for(lambda: not _processes(source))
    time.sleep(0.5)
    assert _wait_for(lambda: not _processes(source))


def _processes(text: str, *, inner: bool = False) -> set[int]:
    """Those whose command line holds ``text``; ``inner``: only interpreters in a process namespace of their own."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path("/proc", name, "cmdline").read_bytes()
                alone = os.readlink(f"/proc/{name}/ns/pid") != os.readlink("/proc/self/ns/pid")
                if text.encode() in line and (not inner or (alone and b"prlimit" not in line)):
                    found.add(int(name))
            except OSError:
                continue
    return found


def _wait_for(condition: Any) -> Any:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    return condition()
