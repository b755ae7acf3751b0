"""Archives of hostile candidates: what they hold comes out as plain files below the destination, or not at all."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.errors import SubmissionRefused, UsageError
from grader.intake import archives, look_at, take_in
from grader.intake import tree as limits
from grader.validate.attacks.packing import PACKINGS

Tiny = Callable[..., Path]

REFUSED = {
    "zip-traversal": "leads out of the submission",
    "zip-absolute": "is an absolute name",
    "zip-backslash": "has a backslash in its name",
    "zip-link": "is not a regular file",
    "zip-case-twins": "have the same name on some machines",
    "zip-unicode-twins": "have the same name on some machines",
    "zip-control-characters": "has control characters in its name",
    "zip-bomb": "more than 200 times its size",
    "zip-lies": "no sound zip archive",
    "zip-many-files": "more than 5000 files",
    "zip-deep": "too deep or too long",
    "zip-encrypted": "is encrypted",
    "tar-link": "is not a regular file",
    "tar-hard-link": "is not a regular file",
    "tar-device": "is not a regular file",
    "tar-pipe": "is not a regular file",
    "tar-absolute": "is an absolute name",
    "tar-traversal": "leads out of the submission",
    "tar-pax-bomb": "extended header is too long",
    "tar-bomb": "more than 200 times its size",
    "folder-link": "is not a regular file",
    "folder-pipe": "is not a regular file",
}


ADDING = {"tar-setuid", "folder-repository"}
"""What has a file more than the folder, and may."""


def given(packing: str, root: Path, place: Path) -> Path:
    """The submission at ``root``, packed."""
    return Path(PACKINGS[packing](root, place / "packed"))


@pytest.fixture(autouse=True)
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough to be refused, small enough to be made quickly."""
    monkeypatch.setattr("grader.validate.attacks.packing.BOMB_BYTES", 20_000_000)


@pytest.mark.parametrize("packing", sorted(REFUSED))
def test_what_must_not_get_in_is_refused_and_nothing_is_left(
    tiny: Tiny, tmp_path: Path, packing: str
) -> None:
    place = tmp_path / "taken"
    place.mkdir()
    with pytest.raises(SubmissionRefused, match=REFUSED[packing]) as refused:
        take_in(given(packing, tiny(), tmp_path), place / "clean")
    assert "\n" not in str(refused.value)
    assert not list(place.iterdir())


ADDRESSES = {name for name in PACKINGS if name.startswith("address-")}


@pytest.mark.parametrize("packing", sorted(ADDRESSES - {"address-option"}))
def test_addresses_that_git_would_obey_are_refused_unseen(tmp_path: Path, packing: str) -> None:
    with pytest.raises(UsageError, match=r"https://|user name"):
        look_at(str(PACKINGS[packing](tmp_path, tmp_path / "packed")))


@pytest.mark.parametrize("packing", sorted(set(PACKINGS) - set(REFUSED) - ADDRESSES))
def test_an_honest_archive_comes_out_as_its_folder_would(tiny: Tiny, tmp_path: Path, packing: str) -> None:
    root = tiny()
    plain = take_in(root, tmp_path / "from-folder").digest
    taken = take_in(given(packing, root, tmp_path), tmp_path / "clean")

    for path in taken.source.rglob("*"):
        assert path.is_dir() or (path.is_file() and path.stat().st_mode & 0o7777 == 0o444)
    assert not (taken.source / ".git").exists()
    assert taken.digest == plain or packing in ADDING


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_folder_around_everything_is_taken_off(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    root = tiny(name="a-submission")
    (root / "runs" / "old").mkdir(parents=True)
    (root / "runs" / "old" / "scorecard.json").touch()
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, root_dir=root.parent, base_dir=root.name)
    taken = take_in(Path(packed), tmp_path / "clean")
    assert (taken.source / "src" / "boxoffice" / "__main__.py").is_file()
    assert not (taken.source / "runs").exists()


def test_names_longer_than_a_tar_header_are_read_from_its_extensions(tiny: Tiny, tmp_path: Path) -> None:
    root = tiny()
    deep = root / ("a" * 90) / ("b" * 90) / "c.py"
    deep.parent.mkdir(parents=True)
    deep.write_text("1")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        packed = tmp_path / f"{form}.tar.gz"
        with tarfile.open(packed, "w:gz", format=form) as archive:
            archive.add(root, arcname=".")
        taken = take_in(packed, tmp_path / f"clean-{form}")
        assert (taken.source / deep.relative_to(root)).read_text() == "1"


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tgz"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x05\x06", b"hello", gzip.compress(b"hello"), gzip.compress(b"")]
)
def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SubmissionRefused, match=r"archive|no box office"):
        take_in(tmp_path / name, tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_an_archive_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 10)
    (tmp_path / "x.zip").write_bytes(bytes(11))
    with pytest.raises(SubmissionRefused, match="the archive has more than"):
        take_in(tmp_path / "x.zip", tmp_path / "clean")


def test_what_comes_out_is_counted_while_it_comes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 100_000)
    packed = tmp_path / "x.zip"
    shutil.make_archive(str(tmp_path / "x"), "zip", tiny())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("src/noise.bin", bytes(range(256)) * 1000)
    with pytest.raises(SubmissionRefused, match="remove what is not source"):
        take_in(packed, tmp_path / "clean")


@pytest.mark.parametrize(
    "records", [b"5 pa", b"99 path=x\n", b"0 path=x\n", b"x path=x\n", b"12 size=123\n", b"\xff"]
)
def test_a_malformed_extended_header_is_refused(tiny: Tiny, tmp_path: Path, records: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    block = header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(block))
    with pytest.raises(SubmissionRefused, match=r"no sound tar\.gz archive"):
        take_in(tmp_path / "x.tar.gz", tmp_path / "clean")


def test_a_zip_of_another_size_form_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a", b"")
    raw = content.getvalue()
    at = raw.rindex(b"PK\x05\x06")
    (tmp_path / "x.zip").write_bytes(raw[:at] + b"PK\x06\x07" + bytes(16) + raw[at:])
    with pytest.raises(SubmissionRefused, match="remove what is not source"):
        take_in(tmp_path / "x.zip", tmp_path / "clean")
