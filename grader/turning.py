"""Makes processes take turns until its standard input ends: ``python -I -S turning.py SEED PID...``

A process of its own, with nothing else to do: slices of a tenth of a millisecond are not to be had beside an event loop.
Nor on the core of the one that computes: the scheduler lets that one go on for milliseconds, now and then.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence

SLICE_S = 0.00005
"""To sleep for; it comes to some 0.1 ms. A statement that books seats computes for half a millisecond or more."""


def turn(pids: Sequence[int], order: random.Random, over: threading.Event) -> None:
    """Let one of ``pids`` compute at a time, a slice each, in random order, until ``over``; then all of them."""
    with contextlib.ExitStack() as afterwards:
        for pid in pids:
            afterwards.callback(_tell, pid, signal.SIGCONT)
            _tell(pid, signal.SIGSTOP)
        _keep_apart(pids, afterwards)
        print("turning", flush=True)
        while pids and not over.is_set():
            for pid in order.sample(pids, len(pids)):
                _tell(pid, signal.SIGCONT)
                time.sleep(SLICE_S)
                _tell(pid, signal.SIGSTOP)


def _keep_apart(pids: Sequence[int], afterwards: contextlib.ExitStack) -> None:
    """All of them on one core, ourselves on the others, where that can be had."""
    if not hasattr(os, "sched_setaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        return
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            afterwards.callback(_run_on, pid, os.sched_getaffinity(pid))
            os.sched_setaffinity(pid, cores[-1:])
    os.sched_setaffinity(0, cores[:-1])


def _run_on(pid: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(pid, cores)


def main(seed: str, *pids: str) -> None:
    """Until standard input ends, however that comes about."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever started this ends it, and its input ends with them
    threading.Thread(target=wait, daemon=True).start()
    turn([int(pid) for pid in pids], random.Random(seed), over)


def _tell(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)


if __name__ == "__main__":
    main(*sys.argv[1:])
