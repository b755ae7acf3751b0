from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from grader.sandbox import seccomp
from grader.sandbox.seccomp import RULES, Argument, Rule, UnsupportedMachine
from grader.sandbox.system_calls import ARCHITECTURES, LAST_KNOWN, NAMES, NUMBERS

MACHINES = tuple(ARCHITECTURES)
ALLOWED = 0
I386 = 0x4000_0003
X32 = 0x4000_0000


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter of ``machine`` answers a call: 0 for allowed, else the error. A BPF interpreter of few words."""
    arch = ARCHITECTURES[machine].audit if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    accumulator, place = 0, 0
    while True:
        operation, yes, no, value = code[place]
        place += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                place += value
            case 0x15:
                place += yes if accumulator == value else no
            case 0x25:
                place += yes if accumulator > value else no
            case 0x06:
                assert value == 0x7FFF_0000 or value >> 16 == 5
                return ALLOWED if value == 0x7FFF_0000 else value & 0xFFFF
            case _:
                raise AssertionError(f"no such instruction: {operation:#x}")


def by_name(machine: str, call: str, *arguments: int) -> int:
    return answer(machine, NUMBERS[machine][call], *arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_that_is_not_named_is_allowed_and_every_named_one_has_its_answer(machine: str) -> None:
    unconditional = {call: rule.answer for rule in RULES for call in rule.calls if not rule.unless}
    names = {number: name for name, number in NUMBERS[machine].items()}
    for number in range(LAST_KNOWN + 1):
        name = names.get(number)
        if name is None:
            assert answer(machine, number) == ALLOWED, number
        elif name in unconditional:
            assert answer(machine, number) == unconditional[name], name


@pytest.mark.parametrize("machine", MACHINES)
def test_every_path_through_the_filter_ends_with_an_answer(machine: str) -> None:
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    assert len(code) <= 4096
    assert code[-1][0] == 0x06
    for place, (operation, yes, no, value) in enumerate(code):
        if operation == 0x05:
            assert place + 1 + value < len(code)
        elif operation in (0x15, 0x25):
            assert place + 1 + max(yes, no) < len(code)
        else:
            assert operation in (0x20, 0x54, 0x06)


def test_each_call_of_the_table_is_in_exactly_one_rule() -> None:
    named = [call for rule in RULES for call in rule.calls]
    assert len(named) == len(set(named))
    assert set(named) == NAMES


@pytest.mark.parametrize("machine", MACHINES)
def test_no_two_calls_share_a_number(machine: str) -> None:
    numbers = NUMBERS[machine]
    assert len(set(numbers.values())) == len(numbers)
    assert max(numbers.values()) <= LAST_KNOWN


def test_numbers_of_calls_that_are_younger_than_both_tables_agree() -> None:
    for name, number in NUMBERS["x86_64"].items():
        if number >= 424:
            assert NUMBERS["aarch64"][name] == number


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header}")
    told = {}
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "#define" and words[1].startswith("__NR") and words[2].isdigit():
            told[words[1].removeprefix("__NR_").removeprefix("__NR3264_")] = int(words[2])
    for name, number in NUMBERS[machine].items():
        assert told.get(name, number) == number, name
    assert len(told.keys() & NUMBERS[machine].keys()) > 50


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("clone", (0x003D_0F00,), ALLOWED),  # a thread
        ("clone", (0x0120_0011,), ALLOWED),  # a process
        ("clone", (0x1000_0011,), errno.EPERM),
        ("clone", (0x0002_0011,), errno.EPERM),
        ("clone", (0x4000_0000 | 0x11,), errno.EPERM),
        ("clone3", (), errno.ENOSYS),
        ("socket", (1, 1, 0), ALLOWED),
        ("socket", (1, 0x80801, 0), ALLOWED),
        ("socket", (2, 0x80801, 6), ALLOWED),
        ("socket", (10, 2, 17), ALLOWED),
        ("socket", (2, 1, 0), ALLOWED),
        ("socket", (2, 3, 1), errno.EPERM),  # raw
        ("socket", (2, 10, 0), errno.EPERM),  # packets, the old way
        ("socket", (10, 1, 132), errno.EPERM),  # SCTP
        ("socket", (2, 2, 1), errno.EPERM),  # ping
        ("socket", (16, 0x80003, 0), ALLOWED),  # the C library's list of interfaces
        ("socket", (16, 3, 12), errno.EPERM),  # netfilter
        ("socket", (17, 3, 0), errno.EPERM),  # packets
        ("socket", (38, 5, 0), errno.EPERM),  # the kernel's cryptography
        ("socket", (40, 1, 0), errno.EPERM),  # virtual machines
        ("socket", (0x1_0000_0028, 1, 0), errno.EPERM),
        ("socketpair", (1, 1, 0), ALLOWED),
        ("socketpair", (30, 1, 0), errno.EPERM),
        ("ioctl", (0, 0x5401), ALLOWED),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("ioctl", (0, 0xFFFF_FFFF_0000_5412), errno.EPERM),
        ("ioctl", (0, 0x541C), errno.EPERM),
        ("ioctl", (0, 0x5423), errno.EPERM),
        ("prctl", (15,), ALLOWED),
        ("prctl", (35,), errno.EPERM),
        ("personality", (0xFFFF_FFFF,), ALLOWED),
        ("personality", (0,), ALLOWED),
        ("personality", (0x0004_0000,), errno.EPERM),
        ("seccomp", (1, 0), ALLOWED),
        ("seccomp", (1, 8), errno.EPERM),
        ("seccomp", (1, 9), errno.EPERM),
    ],
)
def test_arguments_decide_where_a_call_has_harmless_uses(
    machine: str, call: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert by_name(machine, call, *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_other_architectures_do_not_exist(machine: str) -> None:
    assert answer(machine, 0, architecture=I386) == errno.ENOSYS
    other = next(each for each in MACHINES if each != machine)
    assert answer(machine, 0, architecture=ARCHITECTURES[other].audit) == errno.ENOSYS
    assert answer(machine, X32 | 1) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_newer_than_the_table_do_not_exist(machine: str) -> None:
    assert answer(machine, LAST_KNOWN) == ALLOWED
    assert answer(machine, LAST_KNOWN + 1) == errno.ENOSYS
    assert answer(machine, 0xFFFF_FFFF) == errno.ENOSYS


def test_an_unknown_machine_is_told_which_are_known() -> None:
    with pytest.raises(
        UnsupportedMachine, match=r"riscv64 \(it knows x86_64 and aarch64; grade on such a machine\)"
    ):
        seccomp.program("riscv64")


def test_a_rule_for_a_call_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="no system call fly in the table"):
        Rule("birds", "test", ("fly",))


def test_a_jump_that_is_too_long_is_an_error_and_not_a_wrong_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Rule("long", "test", ("ioctl",), unless=((Argument(1, tuple(range(300))),),))
    monkeypatch.setattr(seccomp, "RULES", (endless,))
    with pytest.raises(ValueError, match="a jump reaches 255"):
        seccomp.program("x86_64")
