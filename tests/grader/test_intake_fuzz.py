"""Whatever is handed in: a clean tree of plain files, or a refusal; never a crash, never a byte elsewhere.

Some hundred examples in a test run; ``FUZZ_EXAMPLES=10000`` makes it so many for each test.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.paths import kit_root
from grader.environment.declared import parse
from grader.errors import GraderError, SubmissionRefused, UsageError
from grader.intake import MAX_BYTES, MAX_FILES, take_in

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NEEDED = {
    "src/boxoffice/__init__.py": b"",
    "migrations/0001_initial.sql": (kit_root() / "exercise" / "migrations" / "0001_initial.sql").read_bytes(),
}
PARTS = st.sampled_from(
    ["..", ".", "", "a", "A", "\u00e9", "e\u0301", "src", "boxoffice", ".git", "runs", "x" * 250, "\x00", "\x1b[2J",
     "\u202e", "\ud800", "\\", "C:", "con", "~", "-rf", "*", " ", "\n", ".GIT", "\U0001f600", "__MACOSX", "._a"]
)  # fmt: skip
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map("/".join),
    st.text(min_size=1, max_size=40),
    st.sampled_from(["/etc/x", "//x", "src/boxoffice/__init__.py", "src/boxoffice", "src", "a/" * 100 + "b"]),
)
CONTENTS = st.one_of(st.binary(max_size=200), st.integers(0, 3_000_000).map(bytes))
MODES = st.integers(0, 0o177777)
KINDS = st.sampled_from([bytes([kind]) for kind in b"01234567SLKxgX\0VMDN"])
DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


@contextmanager
def watched() -> Iterator[tuple[Path, Path]]:
    """A folder for what is handed in, and one in whose ``clean`` it may come out, and nowhere else."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "deep", "er")
        (place / "taken").mkdir(parents=True)
        (place / "given").mkdir()
        yield place / "given", place / "taken"
        assert sorted(path.name for path in Path(folder).iterdir()) == ["deep"]
        assert sorted(path.name for path in Path(folder, "deep").iterdir()) == ["er"]
        assert sorted(path.name for path in place.iterdir()) == ["given", "taken"]


def try_to_take_in(given_path: Path, place: Path) -> bool:
    """Whether it was taken in; then it is what was promised."""
    try:
        taken = take_in(given_path, place / "clean")
    except (SubmissionRefused, UsageError) as refused:
        _require_one_line(refused)
        assert not list(place.iterdir())
        return False
    assert [path.name for path in place.iterdir()] == ["clean"]
    files, size = 0, 0
    for path in taken.source.rglob("*"):
        status = path.lstat()
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        assert not status.st_mode & 0o7000
        assert path.name != ".git"
        if stat.S_ISREG(status.st_mode):
            files, size = files + 1, size + status.st_size
    assert files == taken.files <= MAX_FILES
    assert size <= MAX_BYTES
    return True


def damaged(raw: bytes, damage: list[tuple[float, int]], length: float) -> bytes:
    """Some bytes exchanged, and the end cut off."""
    changed = bytearray(raw)
    for where, value in damage:
        changed[int(where * len(changed))] = value
    return bytes(changed[: int(length * len(changed))])


@fuzz
@given(
    entries=st.lists(st.tuples(NAMES, CONTENTS, MODES, st.integers(0, 3)), max_size=5),
    damage=DAMAGE,
    length=st.one_of(st.just(1.0), st.floats(0.01, 1)),
)
def test_any_zip(
    entries: list[tuple[str, bytes, int, int]], damage: list[tuple[float, int]], length: float
) -> None:
    made = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, content in NEEDED.items():
            archive.writestr(name, content)
        for name, content, mode, system in entries:
            try:
                entry = zipfile.ZipInfo(name)
                entry.external_attr, entry.create_system = mode << 16, system
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
            except UnicodeEncodeError:
                continue
    with watched() as (given_folder, place):
        (given_folder / "x.zip").write_bytes(damaged(made.getvalue(), damage, length))
        try_to_take_in(given_folder / "x.zip", place)


@fuzz
@given(
    entries=st.lists(st.tuples(NAMES, CONTENTS, MODES, KINDS, NAMES, st.booleans()), max_size=5),
    damage=DAMAGE,
    length=st.one_of(st.just(1.0), st.floats(0.01, 1)),
    outside=st.booleans(),
)
def test_any_tar(
    entries: list[tuple[str, bytes, int, bytes, str, bool]],
    damage: list[tuple[float, int]],
    length: float,
    outside: bool,
) -> None:
    made = io.BytesIO()
    for name, content in NEEDED.items():
        made.write(_tar_entry(name, content, 0o644, tarfile.REGTYPE, "", pax=False))
    for name, content, mode, kind, link, pax in entries:
        with suppress(UnicodeEncodeError):
            made.write(_tar_entry(name, content, mode & 0o7777, kind, link, pax=pax))
    made.write(bytes(1024))
    raw = made.getvalue()
    packed = (
        damaged(gzip.compress(raw), damage, length)
        if outside
        else gzip.compress(damaged(raw, damage, length))
    )
    with watched() as (given_folder, place):
        (given_folder / "x.tar.gz").write_bytes(packed)
        try_to_take_in(given_folder / "x.tar.gz", place)


@fuzz
@given(entries=st.lists(st.tuples(NAMES, st.sampled_from(["file", "link", "pipe", "folder"])), max_size=5))
def test_any_folder(entries: list[tuple[str, str]]) -> None:
    with watched() as (given_folder, place):
        root = given_folder / "root"
        for name, content in NEEDED.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        for name, kind in entries:
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            _make(root, parts, kind)
        try_to_take_in(root, place)


@fuzz
@given(
    st.binary(max_size=3_000),
    st.sampled_from(["x.zip", "x.tar.gz", "x.tgz"]),
    st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08\0"]),
)
def test_any_bytes(content: bytes, name: str, magic: bytes) -> None:
    with watched() as (given_folder, place):
        (given_folder / name).write_bytes(magic + content)
        assert not try_to_take_in(given_folder / name, place)


TOML_VALUES = st.recursive(
    st.one_of(
        st.text(max_size=20), st.integers(), st.floats(allow_nan=False), st.booleans(),
        st.sampled_from(["fastapi", "fastapi==0.1", "x @ https://a/b.whl", "-e .", "--index-url=x", "${TOKEN}", "a;b",
                         "httpx[http2]", "uvicorn ; python_version<'4'", "../x", "fastapi (>=1)", "a" * 5000]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=12,
)  # fmt: skip
KEYS = ["dependencies", "optional-dependencies", "dynamic", "requires-python", "name", "version"]


@fuzz
@given(
    project=st.dictionaries(st.sampled_from(KEYS), TOML_VALUES, max_size=6),
    others=st.dictionaries(
        st.sampled_from(["tool", "build-system", "dependency-groups", "x"]), TOML_VALUES, max_size=3
    ),
    noise=st.one_of(st.just(b""), st.binary(max_size=30)),
)
def test_any_pyproject(project: dict[str, object], others: dict[str, object], noise: bytes) -> None:
    text = "[project]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in project.items())
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in others.items()) + text
    try:
        parse(text.encode("utf-8", "replace") + noise)
    except GraderError as refused:
        _require_one_line(refused)


def _require_one_line(refused: GraderError) -> None:
    assert str(refused).isprintable()


def _tar_entry(name: str, content: bytes, mode: int, kind: bytes, link: str, *, pax: bool) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.type, entry.linkname = len(content), mode, kind, link
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    return (
        entry.tobuf(form, "utf-8", "surrogateescape" if pax else "replace")
        + content
        + bytes(-len(content) % 512)
    )


def _make(root: Path, parts: list[str], kind: str) -> None:
    try:
        path = root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "file":
                path.write_bytes(b"x")
            case "link":
                path.symlink_to("/etc/passwd")
            case "pipe":
                os.mkfifo(path)
            case _:
                path.mkdir()
    except (OSError, ValueError):  # no name for this file system
        return


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(found)}" for key, found in value.items()) + "}"
    if isinstance(value, str):
        return (
            '"' + "".join(f"\\U{ord(c):08X}" if not c.isalnum() or ord(c) > 127 else c for c in value) + '"'
        )
    return str(value)
