"""System calls that Python 3.11 has no name for: namespaces and mounts."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x4_0000
_MNT_DETACH = 2
_MS_NOSUID_NODEV = 0x2 | 0x4

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones. Raises OSError."""
    _called(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace that ``descriptor`` is open on. Raises OSError."""
    _called(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def make_mounts_private() -> None:
    """What this namespace mounts from now on shows nowhere else. Raises OSError."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE, None)


def mount_tmpfs(target: str) -> None:
    """A small empty file system that everybody may enter. Raises OSError."""
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID_NODEV, "size=1m,mode=0755")


def bind(source: str, target: str) -> None:
    """Show the folder ``source`` at ``target``, too. Raises OSError."""
    _mount(source, target, None, _MS_BIND | _MS_REC, None)


def unmount(target: str) -> None:
    """Take away what is mounted at ``target`` as soon as nobody uses it any more; what is not mounted is no error."""
    _libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH))


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else data.encode(),
    )
    _called(result, f"mount {target}")


def _called(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
