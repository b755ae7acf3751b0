"""The system calls that are refused to a service, as a filter for bubblewrap's ``--seccomp``.

What is not named is allowed: a service may be any program, and namespaces, file permissions and limits hold it as
well. Refused are calls that a web service has no use for and that holes of the kernel were found behind, or that would
take it out of its sandbox. ``no_new_privs``, which bubblewrap sets, makes the filter irrevocable for all descendants.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from grader.errors import SandboxUnavailable
from grader.sandbox.system_calls import ARCHITECTURES, LAST_KNOWN, MISSING, NAMES, NUMBERS, REFUSED

# linux/bpf_common.h: class, size and mode of an instruction.
_LOAD_WORD = 0x20
_AND = 0x54
_JUMP = 0x05
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_ABOVE = 0x25
_RETURN = 0x06

# struct seccomp_data of linux/seccomp.h: number, architecture, instruction pointer, six arguments of 64 bits. All
# architectures of the table are little-endian: the low half of an argument comes first. The kernel takes all arguments
# that are looked at here as 32 bits wide, so the high half does not count.
_NUMBER_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16
_ARGUMENT_BYTES = 8

_ALLOW = 0x7FFF_0000
_FAIL = 0x0005_0000
_FARTHEST = 255
_LONGEST = 4096
"""``BPF_MAXINSNS``."""

_INSTRUCTION = struct.Struct("<HBBI")
_ALL_BITS = 0xFFFF_FFFF


class UnsupportedMachine(SandboxUnavailable):
    """There is no table of system calls for this architecture."""


@dataclass(frozen=True)
class Argument:
    """Whether an argument, its bits under ``mask`` alone, is one of ``values``, or, when ``other``, none of them."""

    index: int
    values: tuple[int, ...]
    mask: int = _ALL_BITS
    other: bool = False


@dataclass(frozen=True)
class Rule:
    """Calls that are refused with ``answer`` unless all arguments of one of the shapes in ``unless`` are as it says."""

    name: str
    why: str
    calls: tuple[str, ...]
    unless: tuple[tuple[Argument, ...], ...] = ()
    answer: int = REFUSED

    def __post_init__(self) -> None:
        unknown = sorted(set(self.calls) - NAMES)
        if unknown:
            raise ValueError(f"rule {self.name!r}: no system call {', '.join(unknown)} in the table")


# linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. CLONE_NEWTIME is for clone3 only.
_NEW_NAMESPACES = 0x7E02_0000
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM = 1, 2
_TYPE_MASK = 0xF  # beside it are SOCK_NONBLOCK and SOCK_CLOEXEC
_IP_PROTOCOLS = (0, 6, 17)  # any, TCP, UDP
_NETLINK_ROUTE = 0  # interfaces and addresses: getaddrinfo asks for them
_TERMINAL_REQUESTS = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
_PR_SET_MM = 35
_PERSONALITIES = (0, _ALL_BITS)  # Linux' own; the question which it is
_NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER

RULES = (
    Rule(
        "new processes keep their namespaces",
        "inside a user namespace of its own a process has all capabilities, and with them most of the kernel's holes",
        ("clone",),
        unless=((Argument(0, (0,), mask=_NEW_NAMESPACES),),),
    ),
    Rule(
        "clone3 does not exist",
        "its flags lie in memory, where a filter cannot look; the C library falls back to clone",
        ("clone3",),
        answer=MISSING,
    ),
    Rule("namespaces", "a service stays in those it was put in", ("unshare", "setns")),
    Rule(
        "mounts",
        "the file system is as it was made",
        (
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "open_tree_attr",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
        ),
    ),
    Rule(
        "io_uring",
        "it does input and output past every filter; event loops fall back to epoll",
        ("io_uring_setup", "io_uring_enter", "io_uring_register"),
    ),
    Rule("keys", "the kernel's key rings are shared by namespaces", ("keyctl", "add_key", "request_key")),
    Rule(
        "programs in the kernel",
        "and what observes it: leaks of its memory, and many holes",
        ("bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "syslog"),
    ),
    Rule(
        "other processes' memory and files",
        "a service talks to its processes by pipes, sockets and shared memory",
        (
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "pidfd_getfd",
            "kcmp",
            "move_pages",
            "migrate_pages",
        ),
    ),
    Rule(
        "the machine",
        "modules, swap, restarts, quotas, names and ports are its owner's",
        (
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "create_module",
            "get_kernel_syms",
            "query_module",
            "swapon",
            "swapoff",
            "reboot",
            "quotactl",
            "quotactl_fd",
            "acct",
            "ioperm",
            "iopl",
            "sethostname",
            "setdomainname",
            "vhangup",
            "nfsservctl",
        ),
    ),
    Rule("clocks", "time is the grader's", ("settimeofday", "clock_settime", "clock_adjtime", "adjtimex")),
    Rule("files by handle", "past every folder on the way", ("name_to_handle_at", "open_by_handle_at")),
    Rule("all file events", "those of everybody on a file system", ("fanotify_init", "fanotify_mark")),
    Rule(
        "gifts of pages",
        "memory that others write to after it was checked, and memory that nobody can inspect",
        ("vmsplice", "memfd_secret"),
    ),
    Rule(
        "relics",
        "nothing of today calls them",
        ("modify_ldt", "uselib", "ustat", "sysfs", "_sysctl"),
    ),
    Rule(
        "personality",
        "some switch the randomisation of addresses off, or make data executable",
        ("personality",),
        unless=((Argument(0, _PERSONALITIES),),),
    ),
    Rule(
        "its own memory map",
        "it can pose as another program",
        ("prctl",),
        unless=((Argument(0, (_PR_SET_MM,), other=True),),),
    ),
    Rule(
        "terminals",
        "typing into the terminal of whoever started the grader",
        ("ioctl",),
        unless=((Argument(1, _TERMINAL_REQUESTS, other=True),),),
    ),
    Rule(
        "filters that ask",
        "a supervisor of system calls; filters that only restrict are welcome",
        ("seccomp",),
        unless=((Argument(1, (0,), mask=_NEW_LISTENER),),),
    ),
    Rule(
        "sockets",
        "local ones, TCP, UDP, and the list of interfaces: no raw packets, no virtual machines', no rare protocols",
        ("socket",),
        unless=(
            (Argument(0, (_AF_UNIX,)),),
            (
                Argument(0, (_AF_INET, _AF_INET6)),
                Argument(1, (_STREAM, _DATAGRAM), mask=_TYPE_MASK),
                Argument(2, _IP_PROTOCOLS),
            ),
            (Argument(0, (_AF_NETLINK,)), Argument(2, (_NETLINK_ROUTE,))),
        ),
    ),
    Rule("pairs of sockets", "local ones", ("socketpair",), unless=((Argument(0, (_AF_UNIX,)),),)),
)
"""Each call is in one rule only. Tests hold them to that, and to the table."""


def program(machine: str | None = None) -> bytes:
    """The filter as instructions of the kernel's classic BPF, for this machine's architecture or for ``machine``'s.

    Calls of other architectures (32 bits, x32) and calls that are newer than the table are answered ``ENOSYS``.
    Raises UnsupportedMachine.
    """
    machine = platform.machine() if machine is None else machine
    known = ARCHITECTURES.get(machine)
    if known is None:
        raise UnsupportedMachine(
            f"the sandbox knows no system calls of {machine}",
            hint=f"it knows {' and '.join(ARCHITECTURES)}; grade on such a machine",
        )
    code = _Assembler()
    code.load(_ARCHITECTURE_OFFSET)
    code.branch(_JUMP_IF_EQUAL, known.audit, no="foreign")
    code.load(_NUMBER_OFFSET)
    code.branch(_JUMP_IF_ABOVE, LAST_KNOWN, no="known")
    code.label("foreign")
    code.answer(MISSING)
    code.label("known")
    for rule in RULES:
        _assemble(code, rule, [NUMBERS[machine][call] for call in rule.calls if call in NUMBERS[machine]])
    code.answer(0)
    return code.assembled()


def _assemble(code: _Assembler, rule: Rule, numbers: list[int]) -> None:
    """Code that ends with an answer if the call, whose number is loaded, is one of ``numbers``, and goes on otherwise."""
    if not numbers:
        return
    body, beyond = f"{rule.name}: body", f"{rule.name}: beyond"
    for number in numbers[:-1]:
        code.branch(_JUMP_IF_EQUAL, number, yes=body)
    code.branch(_JUMP_IF_EQUAL, numbers[-1], no=beyond)
    code.label(body)
    for place, shape in enumerate(rule.unless):
        other_shape = f"{rule.name}: not shape {place}"
        for argument in shape:
            _require(code, argument, f"{rule.name}: shape {place}, argument {argument.index}", other_shape)
        code.answer(0)
        code.label(other_shape)
    code.answer(rule.answer)
    code.label(beyond)


def _require(code: _Assembler, argument: Argument, name: str, otherwise: str) -> None:
    """Code that goes on if the argument is as wanted, and jumps to the label ``otherwise`` if it is not."""
    met = f"{name}: met"
    code.load(_ARGUMENTS_OFFSET + _ARGUMENT_BYTES * argument.index)
    if argument.mask != _ALL_BITS:
        code.mask(argument.mask)
    for value in argument.values:
        code.branch(_JUMP_IF_EQUAL, value, yes=otherwise if argument.other else met)
    if not argument.other:
        code.jump(otherwise)
    code.label(met)


@dataclass
class _Assembler:
    """Instructions in order; a label is the place of the instruction after it. Jumps lead forward only."""

    _code: list[tuple[int, int, str | None, str | None]] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    def load(self, offset: int) -> None:
        self._code.append((_LOAD_WORD, offset, None, None))

    def mask(self, bits: int) -> None:
        self._code.append((_AND, bits, None, None))

    def branch(self, test: int, value: int, *, yes: str | None = None, no: str | None = None) -> None:
        self._code.append((test, value, yes, no))

    def jump(self, label: str) -> None:
        self._code.append((_JUMP, 0, label, None))

    def answer(self, error: int) -> None:
        self._code.append((_RETURN, _FAIL | error if error else _ALLOW, None, None))

    def label(self, name: str) -> None:
        if name in self._labels:
            raise ValueError(f"two labels {name!r}")
        self._labels[name] = len(self._code)

    def assembled(self) -> bytes:
        if len(self._code) > _LONGEST:
            raise ValueError(f"{len(self._code)} instructions; the kernel takes {_LONGEST}")
        return b"".join(self._encoded())

    def _encoded(self) -> Iterator[bytes]:
        for place, (code, value, yes, no) in enumerate(self._code):
            if code == _JUMP:
                yield _INSTRUCTION.pack(code, 0, 0, self._distance(place, yes))
            else:
                yield _INSTRUCTION.pack(code, self._distance(place, yes), self._distance(place, no), value)

    def _distance(self, place: int, label: str | None) -> int:
        if label is None:
            return 0
        distance = self._labels[label] - place - 1
        if not 0 <= distance <= _FARTHEST:
            raise ValueError(f"{label!r} is {distance} instructions away; a jump reaches {_FARTHEST} forward")
        return distance
