"""Lock files of requirements: one release of each package, with the hashes of its wheels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name
from packaging.version import Version

_PINNED = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)(?: ; ([^\\]+?))?(?: \\)?")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


@dataclass(frozen=True)
class Locked:
    """A package in a lock. ``marker``: where it is installed, ``None`` for everywhere; ``text``: its lines."""

    name: str
    version: Version
    marker: str | None
    text: str

    @property
    def installable(self) -> bool:
        """Whether it is installed with this Python, here."""
        return self.marker is None or Marker(self.marker).evaluate()


def read_lock(text: str) -> Iterator[Locked]:
    """The packages of a lock, comments left out.

    Raises ValueError, with the line, for whatever is not a pinned release with SHA-256 hashes: such a line could be an
    option or a URL.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    while lines:
        pinned = _PINNED.fullmatch(lines[0])
        if pinned is None:
            raise ValueError(f"not a pinned release: {lines[0]}")
        hashes = 0
        while 1 + hashes < len(lines) and _HASH.fullmatch(lines[1 + hashes]):
            hashes += 1
        if not hashes:
            raise ValueError(f"without a hash: {lines[0]}")
        block, lines = lines[: 1 + hashes], lines[1 + hashes :]
        yield Locked(
            canonicalize_name(pinned[1]),
            Version(pinned[2]),
            pinned[3],
            "".join(f"{line}\n" for line in block),
        )


def locked_versions(lock: Path) -> dict[str, Version]:
    """Canonical names and versions pinned in a lock file, of all platforms."""
    return {locked.name: locked.version for locked in read_lock(lock.read_text())}


def installable_versions(text: str) -> Mapping[str, Version]:
    """Canonical names and versions that the text of a lock installs with this Python, here."""
    return {locked.name: locked.version for locked in read_lock(text) if locked.installable}


def extended(kit: str, resolved: str) -> str:
    """The lock ``kit`` and what ``resolved`` has besides, as text.

    Packages of the kit keep the kit's own hashes, whatever an index says. Raises ValueError if ``resolved`` is not a
    lock, or has another version of one of the kit's packages.
    """
    versions = {locked.name: locked.version for locked in read_lock(kit)}
    further = []
    for locked in read_lock(resolved):
        if versions.get(locked.name, locked.version) != locked.version:
            raise ValueError(f"{locked.name} {locked.version} instead of the kit's {versions[locked.name]}")
        if locked.name not in versions:
            further.append(locked.text)
    return "".join(locked.text for locked in read_lock(kit)) + "".join(further)
