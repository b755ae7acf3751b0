"""Whether an environment has all that an extra asks for: metadata of its packages, read as data."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def uncovered(requirement: Requirement, home: Path) -> bool:
    """Whether an extra of ``requirement`` asks for something that the environment at ``home`` lacks.

    An extra that its package does not know asks for nothing, as with every installer. ``home`` has the kit's own
    packages only, so their metadata is trusted; nothing of it is executed.
    """
    if not requirement.extras:
        return False
    installed = {
        str(canonicalize_name(distribution.name)): distribution
        for folder in home.glob("lib/python*/site-packages")
        for distribution in distributions(path=[str(folder)])
    }
    waiting, seen = [requirement], set[str]()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found = installed.get(canonicalize_name(wanted.name))
        if found is None:
            if wanted is not requirement:
                return True
            continue  # not for this platform
        if wanted is not requirement and not wanted.specifier.contains(found.version, prereleases=True):
            return True
        waiting += [further for extra in wanted.extras for further in _asked_for(found, extra)]
    return False


def _asked_for(distribution: Distribution, extra: str) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        # What the package needs anyway is there; what follows the extra is what the extra adds.
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            yield requirement
