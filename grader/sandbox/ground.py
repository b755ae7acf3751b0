"""The ground that strong rooms stand on: namespaces of the grader's own, which it enters before anything runs.

An ordinary user gets a user namespace in which it keeps its id and may make networks; root needs none and gets a
mount namespace instead, in which what lies in places that other accounts cannot enter is shown in one that they can.
Everything that the grader starts afterwards is inside: PostgreSQL listens on a loopback that nobody else has.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from pathlib import Path

from devstack.placement import Account
from grader.errors import SandboxUnavailable
from grader.sandbox import kernel

SUBMISSION_ID = 65_533
"""User and group id of submissions when the grader is root: below ``nobody``'s, outside all ranges in use on Debian."""

_STAGING = "boxoffice-stage-"
_PLACE = Path("/tmp")
"""Which every account can enter; the caller's own temporary folder may be closed to others."""


class Ground:
    """The grader's own namespaces. :func:`enter` makes one; there is no way back but the end of the process."""

    def __init__(self, staging: Path | None) -> None:
        self._staging = staging
        self._shown: dict[Path, Path] = {}
        self._networks = 0

    @property
    def account(self) -> Account | None:
        """Whom services run as: ``None`` for the caller itself, who is no root."""
        return None if self._staging is None else Account(SUBMISSION_ID, SUBMISSION_ID)

    @property
    def server_account(self) -> Account | None:
        """Whom stubs and proxy run as: not whom services run as."""
        if self._staging is None:
            return None
        nobody = pwd.getpwnam("nobody")
        return Account(nobody.pw_uid, nobody.pw_gid)

    def show(self, folder: Path) -> Path:
        """Where ``folder`` can be entered by the account of services. Raises OSError."""
        if self._staging is None:
            return folder
        if folder not in self._shown:
            place = self._staging / str(len(self._shown))
            place.mkdir(mode=0o755)
            kernel.bind(str(folder), str(place))
            self._shown[folder] = place
        return self._shown[folder]

    def close(self) -> None:
        """Remove the folder that things are shown in; what is running keeps what it has."""
        if self._staging is not None:
            kernel.unmount(str(self._staging))
            with contextlib.suppress(OSError):
                self._staging.rmdir()

    def next_number(self) -> int:
        """A number that no other room has."""
        self._networks += 1
        return self._networks


def enter() -> Ground:
    """Move this process into namespaces of its own. It must have one thread only.

    Raises SandboxUnavailable where the machine does not let us.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise AssertionError("namespaces are entered before any thread is started")
    try:
        ground = _enter_as_root() if os.geteuid() == 0 else _enter_as_user()
    except OSError as error:
        raise SandboxUnavailable(f"this machine makes no namespaces for us ({error.strerror})") from error
    # Only here, because the library takes time to load.
    from grader.sandbox.network import raise_loopback

    raise_loopback()
    return ground


def _enter_as_root() -> Ground:
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS)
    kernel.make_mounts_private()
    _remove_abandoned()
    staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{os.getpid()}-", dir=_PLACE))
    try:
        kernel.mount_tmpfs(str(staging))
    except OSError:
        staging.rmdir()
        raise
    return Ground(staging)


def _remove_abandoned() -> None:
    """Remove the empty folders of graders that were killed. Not those of living ones: removing would unmount."""
    for folder in _PLACE.glob(f"{_STAGING}*-*"):
        number = folder.name.removeprefix(_STAGING).partition("-")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _enter_as_user() -> Ground:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return Ground(None)
