"""A system call filter for sandboxes: what Docker's default profile denies to a container without capabilities.

Classic BPF as bubblewrap's `--seccomp` takes it. Capabilities deny most of this already; the filter is the second
wall, and the only one against new user namespaces, in which a process would have all capabilities again.
"""

import errno
import platform
import struct
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_X32_BIT: Final = 0x40000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000

# mount, umount2, pivot_root, chroot, acct, quotactl, swapon, swapoff, reboot, settimeofday, adjtimex, clock_settime,
# clock_adjtime, sethostname, setdomainname, syslog, vhangup, lookup_dcookie, kexec_load, kexec_file_load, init_module,
# finit_module, delete_module, add_key, request_key, keyctl, unshare, setns, perf_event_open, open_by_handle_at, bpf,
# userfaultfd
_X86_64: Final = (
    *(165, 166, 155, 161, 163, 179, 167, 168, 169, 164, 159, 227, 305, 170, 171, 103, 153, 212, 246, 320, 175),
    *(313, 176, 248, 249, 250, 272, 308, 298, 304, 321, 323),
    *(172, 173),  # iopl, ioperm
)
_AARCH64: Final = (
    *(40, 39, 41, 51, 89, 60, 224, 225, 142, 170, 171, 112, 266, 161, 162, 116, 58, 18, 104, 294, 105),
    *(273, 106, 217, 218, 219, 97, 268, 241, 265, 280, 282),
)
_SAME_EVERYWHERE: Final = (
    *(425, 426, 427),  # io_uring
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
)
_CLONE3: Final = 435
_MACHINES: Final = {"x86_64": (0xC000003E, _X86_64, 56), "aarch64": (0xC00000B7, _AARCH64, 220)}


def sandbox_filter(machine: str = platform.machine()) -> bytes | None:
    """The program for this kind of machine; None for one that is not known here."""
    if machine not in _MACHINES:
        return None
    architecture, denied, clone = _MACHINES[machine]
    program = [
        _instruction(_LOAD, value=_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, 1, 0, architecture),
        _refuse(errno.ENOSYS),
        _instruction(_LOAD, value=_NUMBER),
        _instruction(_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        _refuse(errno.ENOSYS),
    ]
    for number in (*denied, *_SAME_EVERYWHERE):
        program += [_instruction(_JUMP_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    # The flags of clone3 lie in memory, where a filter cannot look: without it, programs use clone.
    program += [_instruction(_JUMP_EQUAL, 0, 1, _CLONE3), _refuse(errno.ENOSYS)]
    program += [
        _instruction(_JUMP_EQUAL, 0, 3, clone),
        _instruction(_LOAD, value=_FIRST_ARGUMENT),
        _instruction(_JUMP_SET, 0, 1, _CLONE_NEWUSER),
        _refuse(errno.EPERM),
        _instruction(_RETURN, value=_ALLOW),
    ]
    return b"".join(program)


def _instruction(code: int, if_true: int = 0, if_false: int = 0, value: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, value=_ERROR | error)
