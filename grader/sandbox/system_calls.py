"""The numbers of the system calls that the filter has rules for, on each architecture that it knows."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Architecture:
    """``audit``: how the kernel names it to filters (``AUDIT_ARCH_…`` of ``linux/audit.h``); ``column``: in the table."""

    audit: int
    column: int


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {"x86_64": Architecture(0xC000_003E, 0), "aarch64": Architecture(0xC000_00B7, 1)}
)
"""By what ``platform.machine()`` says."""

LAST_KNOWN = 469
"""The highest number these rules were written for (``file_setattr``, Linux 6.17). Numbers are the same on all
architectures from 424 on. Later calls, and x32's, which have bit 30 set, do not exist for a service."""

# Name, x86_64, aarch64, from arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
_TABLE = """
_sysctl            156   -
acct               163  89
add_key            248 217
adjtimex           159 171
bpf                321 280
chroot             161  51
clock_adjtime      305 266
clock_settime      227 112
clone               56 220
clone3             435 435
create_module      174   -
delete_module      176 106
fanotify_init      300 262
fanotify_mark      301 263
finit_module       313 273
fsconfig           431 431
fsmount            432 432
fsopen             430 430
fspick             433 433
get_kernel_syms    177   -
init_module        175 105
io_uring_enter     426 426
io_uring_register  427 427
io_uring_setup     425 425
ioctl               16  29
ioperm             173   -
iopl               172   -
kcmp               312 272
kexec_file_load    320 294
kexec_load         246 104
keyctl             250 219
lookup_dcookie     212  18
memfd_secret       447 447
migrate_pages      256 238
modify_ldt         154   -
mount              165  40
mount_setattr      442 442
move_mount         429 429
move_pages         279 239
name_to_handle_at  303 264
nfsservctl         180  42
open_by_handle_at  304 265
open_tree          428 428
open_tree_attr     467 467
perf_event_open    298 241
personality        135  92
pidfd_getfd        438 438
pivot_root         155  41
prctl              157 167
process_madvise    440 440
process_vm_readv   310 270
process_vm_writev  311 271
ptrace             101 117
query_module       178   -
quotactl           179  60
quotactl_fd        443 443
reboot             169 142
request_key        249 218
seccomp            317 277
setdomainname      171 162
sethostname        170 161
setns              308 268
settimeofday       164 170
socket              41 198
socketpair          53 199
swapoff            168 225
swapon             167 224
sysfs              139   -
syslog             103 116
umount2            166  39
unshare            272  97
uselib             134   -
userfaultfd        323 282
ustat              136   -
vhangup            153  58
vmsplice           278  75
"""


def _numbers(column: int) -> Mapping[str, int]:
    rows = (line.split() for line in _TABLE.splitlines() if line)
    return MappingProxyType({row[0]: int(row[1 + column]) for row in rows if row[1 + column] != "-"})


NUMBERS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {machine: _numbers(known.column) for machine, known in ARCHITECTURES.items()}
)
"""By architecture and name. A name that is missing is a call that this architecture does not have."""

NAMES = frozenset(line.split()[0] for line in _TABLE.splitlines() if line)
"""Every name of the table, whichever architecture has it."""

REFUSED = errno.EPERM
MISSING = errno.ENOSYS
"""The answer of a kernel that is too old for a call: callers fall back to an older one."""
