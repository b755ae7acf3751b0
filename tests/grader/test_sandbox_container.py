"""Level container, for real, where root finds an engine: what a process inside can see and do, and that nothing stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grader.errors import SandboxUnavailable
from grader.sandbox import container
from grader.sandbox.levels import choose

pytestmark = [pytest.mark.integration]
PROBE = Path(__file__).with_name("sandbox_probe.py")


@pytest.fixture(scope="module", autouse=True)
def works() -> None:
    if os.geteuid() != 0:
        pytest.skip("containers are for root only: the cable to them is laid by the grader itself")
    try:
        choose("container")
    except SandboxUnavailable as error:
        pytest.skip(f"no containers on this machine: {error}")


def inside(*sources: str) -> list[dict[str, Any]]:
    """What came of each source, run one after the other in one room."""
    done = subprocess.run(
        [sys.executable, str(PROBE), "container", *sources],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_a_process_inside_sees_and_reaches() -> None:
    source = (
        "import os, socket\n"
        "print(os.getuid() > 0, len([n for n in os.listdir('/proc') if n.isdigit()]))\n"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'NoNewPrivs'))])\n"
        "seen = b''.join(open(f'/proc/{p}/environ', 'rb').read() for p in ('1', 'self'))\n"
        "print(b'do-' b'not-tell' in seen, os.path.exists('/etc/shadow'), os.path.exists('/home'))\n"
        "for place in ('/', '/srv/app', '/srv/environment', '/usr', '/etc'):\n"
        "    try: open(place + '/x', 'w'); print('wrote', place)\n"
        "    except OSError: pass\n"
        "def reach(name, address):\n"
        "    try:\n"
        "        with socket.socket() as s: s.settimeout(3); s.connect(address); print(name, 'reached')\n"
        "    except OSError as error: print(name, error.strerror)\n"
        "split = lambda text: (text.rpartition(':')[0], int(text.rpartition(':')[2]))\n"
        "reach('stub', split(os.environ['STUB']))\n"
        "reach('control', split(os.environ['CONTROL']))\n"
        "reach('elsewhere', ('192.0.2.1', 80))\n"
    )
    (result,) = inside(source)
    assert result["status"] == 0, result
    assert result["told"] == [
        "True 2",
        "['0000000000000000', '1']",
        "False False False",
        "stub reached",
        "control Connection refused",
        "elsewhere Network is unreachable",
    ]


def test_ends_are_told_memory_is_limited_and_nothing_stays() -> None:
    exited, killed, bomb = inside(
        "raise SystemExit(3)",
        "import os; os.kill(os.getpid(), 15)",
        "kept = []\nfor _ in range(60): kept.append(bytearray(b'x' * (50 * 2**20)))\nprint('survived')",
    )
    assert exited["status"] == 3
    assert killed["status"] == -15
    assert bomb["status"] not in (0, None)
    assert "MiB" in (bomb["exceeded"] or "")
    engine = container.find()
    assert container.run(engine, "ps", "--all", "--quiet", "--filter", f"label={container.LABEL}") == ""
