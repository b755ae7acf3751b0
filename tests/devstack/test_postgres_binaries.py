from __future__ import annotations

import os
from pathlib import Path

import pytest

from devstack.errors import DevstackError, PostgresError
from devstack.paths import cache_directory, first_migration
from devstack.postgres_binaries import find_binaries


def test_the_embedded_server_is_the_default() -> None:
    found = find_binaries()

    assert found.embedded
    assert found.major >= 18


def test_the_frozen_schema_is_found() -> None:
    assert "CREATE TABLE orders" in first_migration().read_text()


def test_missing_programs_are_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match="--postgres-bin") as failure:
        find_binaries(tmp_path / "no server here")

    assert "\n" not in str(failure.value)


def test_a_program_that_is_no_server_is_refused(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'cannot load' >&2; exit 1\n")
        program.chmod(0o755)

    with pytest.raises(PostgresError, match="cannot load"):
        find_binaries(tmp_path)


@pytest.mark.parametrize("version", ["9.6.24", "14.2"])
def test_an_old_server_is_refused(tmp_path: Path, version: str) -> None:
    for name in ("initdb", "postgres"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)

    with pytest.raises(PostgresError, match="too old"):
        find_binaries(tmp_path)


@pytest.mark.parametrize("trap", ["link", "open to all", "file"])
def test_a_cache_that_others_could_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    cache = tmp_path / "cache"
    if trap == "link":
        cache.symlink_to(tmp_path)
    elif trap == "file":
        cache.write_text("")
    else:
        cache.mkdir()
        os.chmod(cache, 0o777)
    monkeypatch.setenv("BOXOFFICE_CACHE", str(cache))

    with pytest.raises(DevstackError, match="BOXOFFICE_CACHE"):
        cache_directory()
