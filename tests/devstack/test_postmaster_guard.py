from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from devstack import postmaster_guard

DEAF = """
import signal, time
for number in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


def test_a_server_that_refuses_to_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tuple((number, 0.2) for number, _ in postmaster_guard.STOP_STEPS[:2])
    monkeypatch.setattr(postmaster_guard, "STOP_STEPS", (*steps, postmaster_guard.STOP_STEPS[2]))
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        postmaster_guard.stop(server)

    assert server.returncode == -signal.SIGKILL
