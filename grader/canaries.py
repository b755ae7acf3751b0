"""Canaries: secrets of no worth, put where a submission must not look. One that it emits says that it looked there.

A file of the host, a variable in the environment of the kit's own processes, and a text that stands in the sources of
the hidden checks. They are searched for in everything that a submission can write to: answers, calls to upstreams, logs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.paths import cache_directory
from grader.text import one_line

VARIABLE = "BOXOFFICE_HIRING_TOKEN"
"""In the environment of the grader's own processes, and so of those that it starts beside a service."""

HIDDEN_TEXT = "6d1f0c52-hidden-checks-are-not-for-services-b81e"
"""Stands in this file, and so in the sources of the grader, of which a service sees nothing."""

_CHUNK_BYTES = 1 << 20
_NAME_CHARACTERS = 120


@dataclass(frozen=True)
class Canaries:
    """What was planted, by what it is."""

    tokens: Mapping[str, str]

    def found_in(self, folder: Path) -> tuple[str, ...]:
        """A sentence for each canary and each file below ``folder`` in which it stands, as it is or lightly disguised."""
        wanted = {name: _disguises(token) for name, token in self.tokens.items()}
        longest = max(len(disguise) for found in wanted.values() for disguise in found)
        flags = []
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            seen = _seen(path, wanted, longest)
            told = one_line(path.relative_to(folder.parent).as_posix(), _NAME_CHARACTERS)
            flags += [f"it knew {name}, which it must not see: {told}" for name in wanted if name in seen]
        return tuple(flags)


@contextlib.contextmanager
def planted() -> Iterator[Canaries]:
    """Plant canaries for as long as the block runs. Raises OSError if the file cannot be written.

    The variable is set in this process; the file lies in the kit's cache, readable for everybody who can go there.
    """
    file_token, variable_token = secrets.token_hex(16), secrets.token_hex(16)
    folder = cache_directory() / "canaries"
    folder.mkdir(mode=0o755, exist_ok=True)
    _remove_abandoned(folder)
    path = folder / f"{os.getpid()}-credentials"
    path.write_text(f"token = {file_token}\n")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = variable_token
    try:
        yield Canaries(
            {
                "a file of the host": file_token,
                "the grader's environment": variable_token,
                "the sources of the hidden checks": HIDDEN_TEXT,
            }
        )
    finally:
        path.unlink(missing_ok=True)
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _remove_abandoned(folder: Path) -> None:
    """Remove the files of graders that were killed."""
    for path in folder.glob("*-credentials"):
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def _disguises(token: str) -> tuple[bytes, ...]:
    """The token itself, backwards, in hexadecimal, and in base64 at each of the three offsets."""
    plain = token.encode()
    found = [plain, plain[::-1], plain.hex().encode(), plain.hex().upper().encode()]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + plain)
        # What depends on the bytes around it is left out at both ends.
        found.append(encoded[(offset * 8 + 5) // 6 : len(encoded) - 4])
    return tuple(found)


def _seen(path: Path, wanted: Mapping[str, tuple[bytes, ...]], longest: int) -> set[str]:
    seen: set[str] = set()
    kept = b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            window = kept + chunk
            for name, disguises in wanted.items():
                if name not in seen and any(disguise in window for disguise in disguises):
                    seen.add(name)
            kept = window[-longest:]
    return seen
