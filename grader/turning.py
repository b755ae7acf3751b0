"""Makes processes take turns until its standard input ends: ``python -I -S turning.py SEED PID...``

A process of its own, with nothing else to do: slices of a tenth of a millisecond are not to be had beside an event loop.
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
    try:
        for pid in pids:
            _tell(pid, signal.SIGSTOP)
        print("turning", flush=True)
        while pids and not over.is_set():
            for pid in order.sample(pids, len(pids)):
                _tell(pid, signal.SIGCONT)
                time.sleep(SLICE_S)
                _tell(pid, signal.SIGSTOP)
    finally:
        for pid in pids:
            _tell(pid, signal.SIGCONT)


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
