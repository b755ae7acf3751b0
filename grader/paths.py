"""Where the parts of a run lie, and writing them so that a reader never sees half a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import BaseModel

from grader.text import COMMANDS_IN_STRINGS, is_hidden

_NOT_PLAIN = re.compile(r"[^\n -~]")


@dataclass(frozen=True)
class RunPaths:
    """A run directory.

    ::

        RUN/
        ├── lock.json                      what the run was made of (RunLock)
        ├── timing.json                    durations; nothing that is judged
        ├── rubric.toml                    the rubric of this run
        ├── submission/                    the clean tree that was driven
        ├── artifacts/<scenario>/<attempt>.json
        ├── logs/<scenario>/<attempt>/     of the service and its fault server; load/ of the generator
        ├── logs/postgres.log
        └── scorecard.json                 the outcome (Scorecard)
    """

    root: Path

    @property
    def lock(self) -> Path:
        """What the run was made of."""
        return self.root / "lock.json"

    @property
    def timing(self) -> Path:
        """Durations of the run's phases and scenarios."""
        return self.root / "timing.json"

    @property
    def rubric(self) -> Path:
        """The rubric that this run was started with."""
        return self.root / "rubric.toml"

    @property
    def submission(self) -> Path:
        """The clean tree that was driven."""
        return self.root / "submission"

    @property
    def artifacts(self) -> Path:
        """The records of all scenarios."""
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        """Logs of everything that ran."""
        return self.root / "logs"

    @property
    def scorecard(self) -> Path:
        """The outcome."""
        return self.root / "scorecard.json"

    def artifact(self, scenario: str, attempt: int) -> Path:
        """The record of one attempt of a scenario."""
        return self.artifacts / scenario / f"{attempt}.json"

    def attempts(self, scenario: str) -> tuple[Path, ...]:
        """The records of a scenario, first attempt first."""
        found = (self.artifacts / scenario).glob("*.json")
        numbered = [path for path in found if path.stem.isascii() and path.stem.isdigit()]
        return tuple(sorted(numbered, key=lambda path: int(path.stem)))


def canonical_json(value: BaseModel | Mapping[str, object]) -> str:
    """``value`` as indented JSON, the same bytes for the same value; refuses NaN and infinity.

    Hidden characters, and commands for continuous integration, are written as escapes: the file can be shown as it is,
    and reads the same. Halves of surrogate pairs, which no reader takes, become U+FFFD.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    seen = _NOT_PLAIN.sub(_unhidden, text)
    return COMMANDS_IN_STRINGS.sub(lambda found: f"\\u{ord(found[0]):04x}", seen) + "\n"


def _unhidden(found: re.Match[str]) -> str:
    character = found[0]
    if not is_hidden(character):
        return character
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    # DEL is hidden, but JSON leaves it alone.
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def write_json(path: Path, value: BaseModel | Mapping[str, object]) -> None:
    """Write ``value`` to ``path`` as canonical JSON, whole or not at all. Makes missing folders."""
    write_text(path, canonical_json(value))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to a temporary file beside ``path``, then rename it over ``path``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path``, then rename it over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            temporary.chmod(0o644)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
