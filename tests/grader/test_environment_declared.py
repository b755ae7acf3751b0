"""pyproject.toml is read as data: requirements, or a refusal of one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from devstack.paths import kit_root
from grader.environment import check_dependencies
from grader.environment.declared import MAX_BYTES, MAX_DEPENDENCIES, MAX_KEY_PARTS, parse
from grader.errors import SubmissionRefused

LOCK = kit_root() / "requirements" / "service.txt"
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def declaring(*dependencies: str) -> str:
    return "[project]\ndependencies = [" + ", ".join(f"'''{text}'''" for text in dependencies) + "]\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        (declaring("FastAPI", "psycopg[binary,pool]>=3; python_version > '3'"), ["FastAPI", "psycopg"]),
        (declaring("pywin32; sys_platform == 'cp/m'", "orjson"), ["orjson"]),
        (declaring("fastapi") + "[tool.uv.sources]\nleft-pad = {path = '../x'}", ["fastapi"]),
        (declaring("fastapi") + "[[tool.uv.index]]\nurl = 'x'\nname = 'x'\nexplicit = true", ["fastapi"]),
        (declaring("fastapi") + "[build-system]\nbuild-backend = 'evil'\nbackend-path = ['.']", ["fastapi"]),
        (declaring("fastapi") + "[tool.uv]\noverride-dependencies = ['fastapi==0']", ["fastapi"]),
        ("[tool.uv]\nindex-url = 'https://evil.example'", []),
    ],
)
def test_names_versions_and_markers_count_and_nothing_else(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    found = check_dependencies(project(tmp_path, text), LOCK)
    assert [requirement.name for requirement in found] == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[project", r"pyproject.toml cannot be read: .*; correct it"),
        ("project = 1", r"dependencies must be a list of strings"),
        ('[project]\ndependencies = "fastapi"', r"dependencies must be a list of strings"),
        ("[project]\ndependencies = [1]", r"dependencies must be a list of strings"),
        (
            "[project]\ndynamic = ['dependencies']",
            r"dependencies are dynamic, and no build backend runs here",
        ),
        (declaring("left-pad"), r"left-pad is not on the allow-list of the brief"),
        (declaring("fastapi<0.1"), r"fastapi<0.1 does not admit the kit's .*: widen it"),
        (declaring("fastapi==="), r"'fastapi===' compares versions as text: write =="),
        (declaring("fastapi===/etc/passwd"), r"'fastapi===/etc/passwd' compares versions as text"),
        (declaring("fast api ="), r"'fast api =' is not a dependency"),
        (declaring("fastapi; python_version > 'x' and bogus == '1'"), r"is not a dependency"),
        (
            declaring("fastapi @ https://example.com/f.whl"),
            r"fastapi comes from a URL: name a released version",
        ),
        (declaring("fastapi @ file:///srv/x.whl ; python_version < '3'"), r"fastapi comes from a URL"),
        (declaring("fastapi @ git+https://example.com/f"), r"fastapi comes from a URL"),
        (declaring("git+https://example.com/f"), r"is a path or a URL: name a released version instead"),
        (declaring("https://example.com/f.whl"), r"is a path or a URL"),
        (declaring("./package"), r"'./package' is a path or a URL"),
        (declaring("file:package"), r"'file:package' is a path or a URL"),
        (declaring("-e ."), r"'-e .' is an option of an installer: name a package"),
        (declaring("--index-url=https://evil.example"), r"is an option of an installer"),
        (declaring("fastapi --no-binary :all:"), r"is not a dependency"),
        (declaring("fastapi==${HR_TOKEN}"), r"has characters that no dependency needs"),
        (declaring("fastapi\n--no-binary=:all:"), r"has characters that no dependency needs"),
        (declaring("f\u0430stapi"), r"has characters that no dependency needs"),
        (declaring("a" * 501), r"has more than 500 characters"),
        (
            declaring(*["fastapi"] * (MAX_DEPENDENCIES + 1)),
            r"201 dependencies are declared, the limit is 200",
        ),
        (
            declaring("fastapi") + "[tool.uv.sources]\nFastAPI = {git = 'https://example.com/f'}",
            r"\[tool.uv.sources\] FastAPI would take packages from elsewhere: remove it",
        ),
        (
            declaring("fastapi") + "[[tool.uv.index]]\nurl = 'https://evil.example'\ndefault = true",
            r"\[tool.uv\] index would take packages from elsewhere: remove it",
        ),
        (declaring("fastapi") + "[tool.uv]\nindex-url = 'x'", r"\[tool.uv\] index-url would take"),
        (
            declaring("fastapi") + "[tool.uv.pip]\nfind-links = ['x']",
            r"\[tool.uv.pip\] find-links would take",
        ),
        (declaring("fastapi") + "[tool.uv]\nindex = 1", r"\[tool.uv\] index would take"),
        ("a = " + "[" * 100_000, r"cannot be read: maximum recursion depth"),
        ("a = " + "9" * 100_000, r"cannot be read: Exceeds the limit"),
        ("#" * (MAX_BYTES + 1), r"the file is larger than 256 KiB"),
        ("a." * MAX_KEY_PARTS + "a = 1", r"a key has more than 32 parts"),
        ("[" + '"\\"" . ' * MAX_KEY_PARTS + "a]", r"a key has more than 32 parts"),
        ("a = {" + "'x'." * MAX_KEY_PARTS + "a = 1}", r"a key has more than 32 parts"),
    ],
)
def test_what_cannot_be_served_is_refused_with_one_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SubmissionRefused, match=reason) as refusal:
        check_dependencies(project(tmp_path, text), LOCK)
    assert_one_line(refusal.value)


def test_a_permitted_name_does_not_permit_another_version_of_the_kits_packages(tmp_path: Path) -> None:
    with pytest.raises(SubmissionRefused, match="does not admit the kit's"):
        check_dependencies(project(tmp_path, declaring("fastapi<0.1")), LOCK, allowed=["fastapi"])


def test_a_project_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionRefused, match=r"pyproject.toml is missing: restore it"):
        check_dependencies(tmp_path, LOCK)
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SubmissionRefused, match="cannot be read"):
        check_dependencies(tmp_path, LOCK)


def test_a_link_a_folder_and_a_pipe_are_no_project_files(tmp_path: Path) -> None:
    place = tmp_path / "pyproject.toml"
    (tmp_path / "elsewhere").write_text(declaring("fastapi"))
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionRefused, match=r"cannot be read: .*; make it an ordinary file"):
        check_dependencies(tmp_path, LOCK)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(SubmissionRefused, match="is not an ordinary file"):
        check_dependencies(tmp_path, LOCK)
    place.unlink()
    place.mkdir()
    with pytest.raises(SubmissionRefused, match="is not an ordinary file"):
        check_dependencies(tmp_path, LOCK)


def assert_one_line(refusal: SubmissionRefused) -> None:
    told = str(refusal)
    assert told.startswith("pyproject.toml")
    assert told.isprintable()
    assert len(told) < 500


def outcome(content: bytes) -> tuple[Requirement, ...]:
    """Nothing but these two may come of any bytes."""
    try:
        return parse(content)
    except SubmissionRefused as refusal:
        assert_one_line(refusal)
        return ()


PIECES = [
    "fastapi", "FastAPI[all]", "[", "]", "[x,y]", ">=1", "===", "==1.*", "~=1.0", "!", "${HOME}", "$(id)", "-e", "--index-url",
    " @ ", "https://x.example/y", "git+ssh://x", "file:///etc/passwd", "./x", "../..", "\\", ";", "python_version", "extra",
    "==", "'3'", " in ", "not in", "extras", "and", "or", "(", ")", ",", "\n", "\r", "\t", "\x1b[2J", "\u202e", "\x00", "\x85",
    "é", "K", "os_name", "platform_machine", "1!2.3+local", "9" * 60, '"', "#", "%s", "{}", "<script>", "=", "~", " ",
]  # fmt: skip
DEPENDENCIES = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=10).map("".join)
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | DEPENDENCIES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["project", "dependencies", "dynamic", "tool", "uv", "pip", "sources", "index", "explicit",
                             "index-url", "fastapi"]) | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)  # fmt: skip


def toml(value: object) -> str:
    """``value`` as an inline TOML value."""
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {toml(inner)}" for name, inner in value.items()) + "}"
    plain = str(value).encode("utf-8", "replace").decode()
    escaped = (
        f"\\U{ord(letter):08x}" if letter in '"\\' or not letter.isprintable() else letter for letter in plain
    )
    return '"' + "".join(escaped) + '"'


FUZZING = settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZING
@given(st.lists(DEPENDENCIES, max_size=4))
def test_any_declaration_is_read_or_refused(dependencies: list[str]) -> None:
    for requirement in outcome(f"project.dependencies = {toml(list(dependencies))}".encode()):
        written = f"{requirement.name}[{','.join(requirement.extras)}]{requirement.specifier}"
        assert requirement.url is None
        assert not set(written) & set("$ \n\t\\/@;:'\"#")
        assert not written.startswith("-")


@FUZZING
@given(st.dictionaries(st.sampled_from(["project", "tool", "build-system"]), VALUES, max_size=3))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    outcome("\n".join(f"{name} = {toml(value)}" for name, value in document.items()).encode())


TOKENS = [
    "[project]", "[[project]]", "[tool.uv]", "dependencies", "=", "[", "]", "{", "}", ".", ",", '"', "'", '"""', "'''", "\\",
    "\n", " ", "#", "1", "-", "1979-05-27T07:32:00Z", "inf", "nan", "0x", "true", "fastapi", "\\u0000", "\\ud800", "a.b",
]  # fmt: skip


@FUZZING
@given(st.lists(st.sampled_from(TOKENS), max_size=40).map("".join).map(str.encode) | st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    outcome(content)
