"""Locks with hashes, and what an extra asks for beyond them."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from grader.environment.extras import uncovered
from grader.environment.locks import extended, installable_versions, read_lock

A, B = "a" * 64, "b" * 64


def pinned(text: str, *hashes: str) -> str:
    return " \\\n".join([text, *(f"    --hash=sha256:{value}" for value in hashes or (A,))]) + "\n"


def test_a_lock_is_releases_with_their_hashes() -> None:
    text = "# ours\n" + pinned("Left_Pad==1.0", A, B) + pinned("x==2.0 ; python_version < '3'")
    first, second = read_lock(text)
    assert (first.name, str(first.version), first.installable) == ("left-pad", "1.0", True)
    assert first.text == pinned("Left_Pad==1.0", A, B)
    assert (second.marker, second.installable) == ("python_version < '3'", False)
    assert set(installable_versions(text)) == {"left-pad"}


@pytest.mark.parametrize(
    "text",
    [
        "x==1\n",
        "x>=1 \\\n    --hash=sha256:" + A,
        "x==1 \\\n    --hash=md5:" + A,
        "-e .\n",
        "--index-url https://x\n",
        "x @ https://x/y.whl \\\n    --hash=sha256:" + A,
        "    --hash=sha256:" + A,
        "x==1 --no-binary x \\\n    --hash=sha256:" + A,
        "x==1 \\\n    --hash=sha256:" + A + " --no-binary=x",
    ],
)
def test_whatever_else_is_in_a_lock_is_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a pinned release|without a hash"):
        list(read_lock(text))


def test_the_kits_packages_keep_the_kits_hashes() -> None:
    kit = pinned("x==1", A)
    assert extended(kit, pinned("x==1", B) + pinned("y==2", B)) == pinned("x==1", A) + pinned("y==2", B)
    with pytest.raises(ValueError, match="x 2 instead of the kit's 1"):
        extended(kit, pinned("x==2", B))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    def install(name: str, version: str, *needs: str) -> None:
        folder = tmp_path / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")

    install("web", "1.0", "Core>=1", "fast>=2; extra == 'fast'", "Core[deep]; extra == 'deep'",
            "gone; extra == 'gone'", "fast>=9; extra == 'new'", "never; extra == 'other' and python_version < '3'",
            "web[fast]; extra == 'loop'", "web[loop]; extra == 'loop'")  # fmt: skip
    install("core", "1.5", "missing; extra == 'deep'")
    install("fast", "2.0")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", False),
        ("web[fast]", False),
        ("web[unknown]", False),
        ("web[other]", False),
        ("web[loop]", False),
        ("web[gone]", True),
        ("web[new]", True),
        ("web[deep]", True),
        ("web[fast,gone]", True),
        ("not-for-this-platform[x]", False),
    ],
)
def test_an_extra_is_covered_if_all_that_it_adds_is_installed(home: Path, text: str, expected: bool) -> None:
    assert uncovered(Requirement(text), home) is expected
