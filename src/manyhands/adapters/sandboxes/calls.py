"""System calls that no command of a sandbox needs, refused by the kernel (seccomp).

Namespaces alone leave some doors: the session keyring is inherited from whoever started us,
sockets to the hypervisor (vsock) know no namespace of networks, and much of the kernel's surface
(bpf, io_uring, userfaultfd, perf) is there for nobody's build.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

EPERM, EAFNOSUPPORT, ENOSYS = 1, 97, 38
#: Families of sockets that stay: Unix, IPv4, IPv6, netlink (to list one's own interfaces).
FAMILIES = (1, 2, 10, 16)
#: name: numbers on x86-64 and on arm64 (asm/unistd_64.h, asm-generic/unistd.h)
REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "quotactl": (179, 60),
}
IO_URING_SETUP = 425
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


@dataclass(frozen=True, slots=True)
class Machine:
    """audit architecture, the number of ``socket``, the column in ``REFUSED``."""

    audit: int
    socket: int
    column: int


MACHINES = {
    "x86_64": Machine(0xC000003E, 41, 0),
    "aarch64": Machine(0xC00000B7, 198, 1),
}
Line = tuple[int, int, int, int]


def program() -> bytes | None:
    """For ``prctl(PR_SET_SECCOMP)``; None where this machine's numbers are not known here.

    Source: linux/filter.h (classic BPF: code, jump if true, if false, value), linux/seccomp.h
    (number at 0, architecture at 4, arguments from 16, little-endian).
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return None
    lines: list[Line] = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, machine.audit),
        (RETURN, 0, 0, REFUSE | ENOSYS),  # another architecture's numbers
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, 0x40000000),
        (RETURN, 0, 0, REFUSE | ENOSYS),  # x32
        *_refuse(IO_URING_SETUP, ENOSYS),  # programs that know it fall back
    ]
    for numbers in REFUSED.values():
        lines += _refuse(numbers[machine.column], EPERM)
    lines += [
        (EQUAL, 1, 0, machine.socket),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, 16),
    ]
    for family in FAMILIES:
        lines += [(EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    lines.append((RETURN, 0, 0, REFUSE | EAFNOSUPPORT))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _refuse(number: int, error: int) -> list[Line]:
    return [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | error)]
