"""The system calls a box refuses, as the classic BPF program that bwrap loads.

Legend. A program is a list of instructions (code, jump if true, jump if false, value); jumps count instructions to skip.
``LOAD`` takes 32 bits of struct seccomp_data into the accumulator; ``IF_EQUAL`` and ``IF_ANY_BIT`` compare it with the value;
``RETURN`` ends with a verdict. A refused call fails with EPERM; two fail otherwise so that libraries use their way around.
"""

from __future__ import annotations

import errno
import platform
import struct

LOAD, IF_EQUAL, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data (little endian)
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
X32 = 0x40000000  # a bit of the number: another table of the same calls
NEW_NAMESPACE = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_UNIX = 1

Instruction = tuple[int, int, int, int]

# Machine: its audit number, then the calls' numbers, from the kernel's own tables (asm/unistd.h).
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SPECIAL = {  # judged by their first argument, or answered "no such call"
    "x86_64": {"clone": 56, "clone3": 435, "socket": 41},
    "aarch64": {"clone": 220, "clone3": 435, "socket": 198},
}
REFUSED: dict[str, tuple[int, int]] = {  # x86_64, aarch64
    # looking into other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # the kernel's programs, keys and counters: much code, many holes
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219),
    # memory that belongs to no process and no folder
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "mq_open": (240, 180),
    # the machine
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "acct": (163, 89), "syslog": (103, 116), "quotactl": (179, 60),
}  # fmt: skip


def program(machine: str | None = None) -> bytes:
    """The filter for ``machine`` (this one), as bwrap's ``--seccomp`` reads it. Raises ValueError for an unknown machine."""
    machine = machine or platform.machine()
    if machine not in AUDIT:
        raise ValueError(f"no system call filter for {machine}: there is one for {' and '.join(AUDIT)}")
    special = SPECIAL[machine]
    which = list(AUDIT).index(machine)
    instructions: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, AUDIT[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (IF_ANY_BIT, 0, 1, X32),
        (RETURN, 0, 0, FAIL | errno.EPERM),
    ]
    for numbers in REFUSED.values():
        instructions += _if_equal(numbers[which], [(RETURN, 0, 0, FAIL | errno.EPERM)])
    # Its flags lie in memory, out of a filter's sight; libc falls back to clone.
    instructions += _if_equal(special["clone3"], [(RETURN, 0, 0, FAIL | errno.ENOSYS)])
    instructions += _if_equal(
        special["clone"],
        [
            (LOAD, 0, 0, FIRST_ARGUMENT),
            (IF_ANY_BIT, 0, 1, NEW_NAMESPACE),
            (RETURN, 0, 0, FAIL | errno.EPERM),
            (RETURN, 0, 0, ALLOW),
        ],
    )
    instructions += _if_equal(
        special["socket"],
        [
            (LOAD, 0, 0, FIRST_ARGUMENT),
            (IF_EQUAL, 1, 0, AF_UNIX),
            (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
            (RETURN, 0, 0, ALLOW),
        ],
    )
    instructions.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _if_equal(value: int, then: list[Instruction]) -> list[Instruction]:
    return [(IF_EQUAL, 0, len(then), value), *then]
