"""Archives, extracted by our own hand: regular files and folders only, counted while they are decompressed.

The libraries parse headers and decompress; they never write, and are never asked for more than a bounded piece.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from grader.errors import SubmissionRefused
from grader.intake.tree import MAX_BYTES, MAX_FILES, Tree, is_skipped, not_regular, parts_of, too_large
from grader.text import one_line

MAX_ARCHIVE_BYTES = MAX_BYTES
MAX_RATIO = 200
"""Bytes out of one byte in; sources come to 4 to 10."""

RATIO_FROM_BYTES = 4 << 20
"""Below that nobody is hurt: a small file of zeros is no bomb."""

MAX_DIRECTORY_BYTES = 4 << 20
"""A zip's list of contents; parsing makes objects of some twenty times its size."""

MAX_LONG_NAME = 64 << 10
"""Of a tar entry's extended header; only names are taken from it."""

_PIECE = 1 << 16
_BLOCK = tarfile.BLOCKSIZE
_ENCRYPTED = 0x1 | 0x40
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_END, _END_BYTES = b"PK\x05\x06", 22
_END_64, _END_64_BYTES = b"PK\x06\x07", 20
_COMMENT_BYTES = 0xFFFF
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})


def read_zip(path: Path, tree: Tree) -> None:
    """Extract a zip archive. Raises SubmissionRefused."""
    with _opened(path) as file:
        _require_small_directory(file)
        try:
            with zipfile.ZipFile(file) as archive:
                _extract_zip(archive, tree, _Ratio(path))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, ValueError,
                OverflowError, RuntimeError) as error:  # fmt: skip
            raise _broken("zip", str(error)) from error
        except OSError as error:
            raise _broken("zip", error.strerror or "an odd offset") from error


def read_tar_gz(path: Path, tree: Tree) -> None:
    """Extract a gzip-compressed tar archive. Raises SubmissionRefused."""
    with _opened(path) as file:
        try:
            _extract_tar(_Inflated(file, _Ratio(path)), tree)
        except (tarfile.TarError, zlib.error, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise _broken("tar.gz", str(error)) from error


def _opened(path: Path) -> BinaryIO:
    try:
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise SubmissionRefused(
                f"the archive has more than {MAX_ARCHIVE_BYTES // 2**20} MiB: remove what is not source"
            )
        return path.open("rb")
    except OSError as error:
        raise SubmissionRefused(
            f"the archive cannot be read ({error.strerror}): correct its permissions"
        ) from error


def _broken(kind: str, reason: str) -> SubmissionRefused:
    return SubmissionRefused(
        f"this is no sound {kind} archive ({one_line(reason, 100) or 'damaged'}): pack it anew"
    )


class _Ratio:
    """How much came out of so much."""

    def __init__(self, path: Path) -> None:
        self._most = max(RATIO_FROM_BYTES, MAX_RATIO * path.stat().st_size)
        self._total = 0

    def count(self, received: int) -> None:
        """So many bytes came out. Raises SubmissionRefused."""
        self._total += received
        if self._total > self._most:
            raise SubmissionRefused(
                f"the archive unpacks to more than {MAX_RATIO} times its size: remove what is not source"
            )


def _require_small_directory(file: BinaryIO) -> None:
    """Look at the end of the zip before a parser makes objects of what it says."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _COMMENT_BYTES - _END_BYTES - _END_64_BYTES))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise _broken("zip", "its list of contents is missing")
    directory_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    long_form = tail[max(0, at - _END_64_BYTES) : at].startswith(_END_64)
    if long_form or directory_bytes > MAX_DIRECTORY_BYTES:
        raise too_large()


def _extract_zip(archive: zipfile.ZipFile, tree: Tree, ratio: _Ratio) -> None:
    entries = archive.infolist()
    if len(entries) > 2 * MAX_FILES:
        raise too_large()
    for entry in entries:
        if entry.orig_filename != entry.filename:
            raise SubmissionRefused(
                f"{entry.orig_filename[:100]!r} has control characters in its name: rename it"
            )
        parts = parts_of(entry.filename)
        folder = entry.filename.endswith("/")
        if is_skipped(parts, folder=folder):
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
            raise not_regular(entry.filename)
        if entry.flag_bits & _ENCRYPTED:
            raise SubmissionRefused(f"{entry.filename} is encrypted: pack it without a password")
        if entry.compress_type not in _METHODS:
            raise SubmissionRefused(f"{entry.filename} is compressed in an unusual way: use deflate")
        if folder:
            tree.add_folder(parts)
        else:
            tree.add_file(parts, _inflate(archive, entry, ratio))


def _inflate(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, ratio: _Ratio) -> Iterator[bytes]:
    with archive.open(entry) as file:
        while piece := file.read(_PIECE):
            ratio.count(len(piece))
            yield piece


class _Inflated:
    """What a gzip file holds, as a stream."""

    def __init__(self, file: BinaryIO, ratio: _Ratio) -> None:
        self._file, self._ratio = file, ratio
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""
        self._ready = bytearray()
        self._ended = False

    def read(self, size: int) -> bytes:
        """``size`` bytes. Raises SubmissionRefused if there are fewer."""
        found = self.read_up_to(size)
        if len(found) < size:
            raise _broken("tar.gz", "it ends too early")
        return found

    def read_up_to(self, size: int) -> bytes:
        """``size`` bytes, or what is left. ``size`` is small: it is kept in memory."""
        while len(self._ready) < size and not self._ended:
            self._fill()
        found = bytes(self._ready[:size])
        del self._ready[:size]
        return found

    def _fill(self) -> None:
        if not self._packed:
            self._packed = self._file.read(_PIECE)
        if not self._packed:
            self._ended = True
            if not self._inflater.eof:
                raise _broken("tar.gz", "it ends too early")
            return
        if self._inflater.eof:  # another member, or filling
            if not self._packed.strip(b"\0"):
                self._packed = b""
                return
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        piece = self._inflater.decompress(self._packed, _PIECE)
        self._packed = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        self._ratio.count(len(piece))
        self._ready += piece


def _extract_tar(stream: _Inflated, tree: Tree) -> None:
    long_name: str | None = None
    headers = 0
    while block := stream.read_up_to(_BLOCK):
        if len(block) < _BLOCK:
            raise _broken("tar.gz", "it ends too early")
        if not block.strip(b"\0"):
            return
        headers += 1
        if headers > 6 * MAX_FILES:
            raise too_large()
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if entry.size < 0:
            raise _broken("tar.gz", "a size below zero")
        if entry.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            long_name = _pax_name(_extension(stream, entry.size)) or long_name
        elif entry.type == tarfile.GNUTYPE_LONGNAME:
            long_name = _extension(stream, entry.size).rstrip(b"\0").decode()
        elif entry.type == tarfile.XGLTYPE:
            _extension(stream, entry.size)  # git writes the commit there
        else:
            _take(stream, entry, long_name if long_name is not None else entry.name, tree)
            long_name = None


def _take(stream: _Inflated, entry: tarfile.TarInfo, name: str, tree: Tree) -> None:
    folder = entry.type == tarfile.DIRTYPE or (entry.type == tarfile.AREGTYPE and name.endswith("/"))
    parts = parts_of(name)
    if not folder and entry.type not in _FILES:
        if is_skipped(parts):
            return
        raise not_regular(name)
    size = 0 if folder else entry.size
    pieces = _body(stream, size)
    if is_skipped(parts, folder=folder):
        for _ in pieces:
            pass
    elif folder:
        tree.add_folder(parts)
    else:
        tree.add_file(parts, pieces)


def _body(stream: _Inflated, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = stream.read(min(left, _PIECE))
        left -= len(piece)
        yield piece
    if size % _BLOCK:
        stream.read(_BLOCK - size % _BLOCK)


def _extension(stream: _Inflated, size: int) -> bytes:
    if size > MAX_LONG_NAME:
        raise _broken("tar.gz", "an extended header is too long")
    return b"".join(_body(stream, size))


def _pax_name(records: bytes) -> str | None:
    """The path in records of the form ``LENGTH KEY=VALUE\\n``. Raises SubmissionRefused for what changes a size."""
    found: str | None = None
    while records.strip(b"\0"):
        digits, space, _ = records.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 7 else 0
        record = records[len(digits) + 1 : length - 1]
        if (
            not space
            or length <= len(digits) + 1
            or length > len(records)
            or records[length - 1 : length] != b"\n"
        ):
            raise _broken("tar.gz", "an extended header is malformed")
        key, _, value = record.partition(b"=")
        if key == b"path":
            found = value.decode()
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise _broken("tar.gz", "a sparse or very large file")
        records = records[length:]
    return found
