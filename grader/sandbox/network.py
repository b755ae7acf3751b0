"""Networks of two: the grader at one end of a cable, the services of one world at the other, and nobody else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from pyroute2 import IPRoute

from grader.sandbox import kernel

_LOOPBACK = 1
_FIRST = 10 << 24 | 77 << 16
"""10.77.0.0: each network takes four addresses from here on."""

_PREFIX = 30
MAXIMUM_NETWORKS = 16_000
"""Addresses below 10.77.0.0/16, four each, without the first."""


class Network:
    """A network namespace and the cable to it. ``descriptor`` is open on the namespace, and closed with this."""

    def __init__(self, number: int, descriptor: int | None = None) -> None:
        """Lay the cable to the namespace that ``descriptor`` is open on; ``None``: to a new one. Raises OSError."""
        base = _FIRST + 4 * (1 + (number - 1) % MAXIMUM_NETWORKS)
        self.near = _dotted(base + 1)
        """The grader's end."""
        self.far = _dotted(base + 2)
        """The services' end."""
        self._name = f"room{number}"
        self.descriptor = _in_thread(_new_namespace) if descriptor is None else descriptor
        try:
            with IPRoute() as routes:
                peer = {"ifname": "eth0", "net_ns_fd": self.descriptor}
                routes.link("add", ifname=self._name, kind="veth", peer=peer)
                index = routes.link_lookup(ifname=self._name)[0]
                routes.addr("add", index=index, address=self.near, prefixlen=_PREFIX)
                routes.link("set", index=index, state="up")
            _in_thread(self._configure_far_end)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cut the cable; the namespace goes with its last process."""
        with IPRoute() as routes:
            for index in routes.link_lookup(ifname=self._name):
                routes.link("del", index=index)
        os.close(self.descriptor)

    def _configure_far_end(self) -> int:
        kernel.setns(self.descriptor, kernel.CLONE_NEWNET)
        with IPRoute() as routes:
            routes.link("set", index=_LOOPBACK, state="up")
            index: int = routes.link_lookup(ifname="eth0")[0]
            routes.addr("add", index=index, address=self.far, prefixlen=_PREFIX)
            routes.link("set", index=index, state="up")
        return index


def raise_loopback() -> None:
    """Bring the loopback of this namespace up. Raises OSError."""
    with IPRoute() as routes:
        routes.link("set", index=_LOOPBACK, state="up")


def _new_namespace() -> int:
    kernel.unshare(kernel.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _in_thread(work: Callable[[], int]) -> int:
    """``work`` in a thread of its own, whose namespace ends with it. Raises what it raises."""
    results: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))
