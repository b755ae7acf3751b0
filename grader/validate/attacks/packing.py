"""Archives and folders that hold a submission and something that must not get in.

Each takes a submission's tree and a path without suffix, and gives what is handed in. Made with the plainest means:
headers that no tool would write are written by hand.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

Packing = Callable[[Path, Path], Path | str]

BOMB_BYTES = 600_000_000
MANY = 20_000
_TRAP = b"[core]\n\tbare = true\n\tfsmonitor = touch /tmp/boxoffice-attack\n\thooksPath = hooks\n"
_OUTSIDE = "../../../../../../tmp/boxoffice-attack"


def _files(tree: Path) -> list[tuple[str, bytes]]:
    return [
        (path.relative_to(tree).as_posix(), path.read_bytes())
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    ]


def _zip(tree: Path, target: Path, *more: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = target.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (*_files(tree), *more):
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def _tar(tree: Path, target: Path, *more: tarfile.TarInfo, contents: dict[str, bytes] | None = None) -> Path:
    path = target.with_name(target.name + ".tar.gz")
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in _files(tree):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in more:
            content = (contents or {}).get(entry.name, b"")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def _entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, mode
    return entry


def _zip_link(tree: Path, target: Path) -> Path:
    link = zipfile.ZipInfo("src/secrets.txt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return _zip(tree, target, (link, b"/etc/passwd"))


def _zip_bomb(tree: Path, target: Path) -> Path:
    path = _zip(tree, target)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("src/data.bin", "w") as out,
    ):
        for _ in range(BOMB_BYTES // 1_000_000):
            out.write(bytes(1_000_000))
    return path


def _zip_lies(tree: Path, target: Path) -> Path:
    """The directory says that a file has 10 bytes; it has 5 million."""
    path = _zip(tree, target, ("src/data.bin", bytes(5_000_000)))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"src/data.bin") - 46  # the fixed part of a directory entry
    assert raw[at : at + 4] == b"PK\x01\x02"
    struct.pack_into("<I", raw, at + 24, 10)
    path.write_bytes(raw)
    return path


def _zip_encrypted(tree: Path, target: Path) -> Path:
    path = _zip(tree, target)
    raw = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(mark)
        raw[at + flags] |= 1
    path.write_bytes(raw)
    return path


def _tar_pax_bomb(tree: Path, target: Path) -> Path:
    """A header before the first file whose own text has hundreds of megabytes."""
    path = _tar(tree, target)
    plain = gzip.decompress(path.read_bytes())
    entry = _entry("src/data.bin")
    entry.pax_headers = {"comment": "x" * (BOMB_BYTES // 2)}
    with gzip.open(path, "wb") as out:
        out.write(entry.tobuf(format=tarfile.PAX_FORMAT))
        out.write(plain)
    return path


def _tar_bomb(tree: Path, target: Path) -> Path:
    path = target.with_name(target.name + ".tar.gz")
    head = tarfile.TarInfo("src/data.bin")
    head.size = BOMB_BYTES
    with gzip.open(path, "wb", compresslevel=9) as out:
        out.write(head.tobuf())
        for _ in range(BOMB_BYTES // 1_000_000):
            out.write(bytes(1_000_000))
    return path


def _git_folder(tree: Path, target: Path) -> Path:
    """A repository whose settings run a program at every ``git status``."""
    contents = {
        ".git/config": _TRAP,
        ".git/HEAD": b"ref: refs/heads/main\n",
        ".git/hooks/post-checkout": b"#!/bin/sh\ntouch /tmp/boxoffice-attack\n",
    }
    return _tar(tree, target, *(_entry(name, mode=0o755) for name in contents), contents=contents)


def _folder(tree: Path, target: Path, spoil: Callable[[Path], None]) -> Path:
    spoil(tree)
    return tree


def _folder_link(tree: Path, target: Path) -> Path:
    return _folder(tree, target, lambda root: (root / "src" / "keys").symlink_to("/etc"))


def _folder_pipe(tree: Path, target: Path) -> Path:
    return _folder(tree, target, lambda root: os.mkfifo(root / "src" / "pipe"))


def _folder_repository(tree: Path, target: Path) -> Path:
    """A bare repository in a folder of another name: git that is run below it would take its settings."""

    def spoil(root: Path) -> None:
        inner = root / "docs" / "history"
        for name in ("objects", "refs"):
            (inner / name).mkdir(parents=True)
            (inner / name / "keep").touch()
        (inner / "HEAD").write_text("ref: refs/heads/main\n")
        (inner / "config").write_text(_TRAP.decode())

    return _folder(tree, target, spoil)


PACKINGS: MappingProxyType[str, Packing] = MappingProxyType(
    {
        "zip": _zip,
        "tar-gz": _tar,
        "zip-traversal": lambda tree, target: _zip(tree, target, (_OUTSIDE, b"x")),
        "zip-absolute": lambda tree, target: _zip(tree, target, ("/tmp/boxoffice-attack", b"x")),
        "zip-backslash": lambda tree, target: _zip(tree, target, ("src\\..\\..\\boxoffice-attack", b"x")),
        "zip-link": _zip_link,
        "zip-case-twins": lambda tree, target: _zip(tree, target, ("src/A.py", b"1"), ("src/a.py", b"2")),
        "zip-unicode-twins": lambda tree, target: _zip(
            tree, target, ("src/\u00e9.py", b"1"), ("src/e\u0301.py", b"2")
        ),
        "zip-control-characters": lambda tree, target: _zip(tree, target, ("src/\x1b]0;x\x07.py", b"1")),
        "zip-bomb": _zip_bomb,
        "zip-lies": _zip_lies,
        "zip-many-files": lambda tree, target: _zip(
            tree, target, *((f"data/{number}", b"") for number in range(MANY))
        ),
        "zip-deep": lambda tree, target: _zip(tree, target, ("/".join(["d"] * 200) + "/x", b"")),
        "zip-encrypted": _zip_encrypted,
        "tar-link": lambda tree, target: _tar(
            tree, target, _entry("src/x", tarfile.SYMTYPE, link="/etc/passwd")
        ),
        "tar-hard-link": lambda tree, target: _tar(
            tree, target, _entry("src/x", tarfile.LNKTYPE, link="/etc/passwd")
        ),
        "tar-device": lambda tree, target: _tar(tree, target, _entry("src/x", tarfile.CHRTYPE)),
        "tar-pipe": lambda tree, target: _tar(tree, target, _entry("src/x", tarfile.FIFOTYPE)),
        "tar-setuid": lambda tree, target: _tar(
            tree, target, _entry("src/x", mode=0o6755), contents={"src/x": b"#!/bin/sh\n"}
        ),
        "tar-absolute": lambda tree, target: _tar(tree, target, _entry("/tmp/boxoffice-attack")),
        "tar-traversal": lambda tree, target: _tar(tree, target, _entry(_OUTSIDE)),
        "tar-pax-bomb": _tar_pax_bomb,
        "tar-bomb": _tar_bomb,
        "tar-git-folder": _git_folder,
        "folder-link": _folder_link,
        "folder-pipe": _folder_pipe,
        "folder-repository": _folder_repository,
        "address-command": lambda tree, target: "ext::sh -c touch% /tmp/boxoffice-attack",
        "address-option": lambda tree, target: "--upload-pack=touch /tmp/boxoffice-attack",
        "address-file": lambda tree, target: f"file://{tree}",
        "address-shell": lambda tree, target: "ssh://-oProxyCommand=touch%20%2Ftmp%2Fboxoffice-attack/x",
        "address-password": lambda tree, target: "https://user:hiring-word@127.0.0.1:9/x",
    }
)
"""By the name that ``expect.toml`` uses."""
