# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH123, PTH211, BLE001
"""Tries to get out of a run, or at what is not its own. Prints one JSON line: what succeeded, and what was refused.

Standard library only. Arguments: the host's addresses and paths to try, as JSON.
"""

import ctypes
import ctypes.util
import json
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
X86 = platform.machine() == "x86_64"
STRANGERS = ("slipway_worker", "slipway-worker", "postgres", "valkey-server", "dockerd", "pytest")
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000


class Refused(Exception):
    """An abuse did not work."""


def call(result: int) -> int:
    """The result of a system call. Raises `Refused`."""
    if result < 0:
        raise Refused(os.strerror(ctypes.get_errno()))
    return result


def syscall(x86: int, arm: int, *arguments: Any) -> int:
    return call(LIBC.syscall(x86 if X86 else arm, *arguments))


def mount_tmpfs() -> None:
    call(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, b""))


def remount_root_writable() -> None:
    call(LIBC.mount(b"none", b"/", None, 32, None))


def mount_proc_elsewhere() -> None:
    os.makedirs("/tmp/proc", exist_ok=True)
    call(LIBC.mount(b"proc", b"/tmp/proc", b"proc", 0, b""))


def mount_cgroups() -> None:
    os.makedirs("/tmp/cg", exist_ok=True)
    call(LIBC.mount(b"cgroup", b"/tmp/cg", b"cgroup", 0, b"rdma"))


def unshare_user() -> None:
    in_child(lambda: call(LIBC.unshare(CLONE_NEWUSER)))


def unshare_mounts() -> None:
    in_child(lambda: call(LIBC.unshare(CLONE_NEWNS)))


def clone_user_namespace() -> None:
    pid = syscall(56, 220, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def join_namespace_of_first_process() -> None:
    with open("/proc/1/ns/mnt") as file:
        call(LIBC.setns(file.fileno(), 0))


def keyctl_read_session() -> None:
    syscall(250, 219, 0, -3, 1)


def add_key() -> None:
    syscall(248, 217, b"user", b"slipway", b"x", 1, -4)


def bpf_program() -> None:
    syscall(321, 280, 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + b"\0" * 100), 116)


def userfaultfd() -> None:
    os.close(syscall(323, 282, 0))


def perf_events() -> None:
    syscall(298, 241, ctypes.create_string_buffer(struct.pack("II", 1, 112) + b"\0" * 104), -1, 0, -1, 0)


def open_by_handle() -> None:
    handle = ctypes.create_string_buffer(struct.pack("iI", 8, 1) + struct.pack("Q", 2))
    descriptor = os.open("/", os.O_RDONLY)
    syscall(304, 265, descriptor, handle, 0)


def kernel_module() -> None:
    syscall(313, 273, os.open("/etc/hostname", os.O_RDONLY), b"", 0)


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300).close()


def make_device() -> None:
    os.mknod("/tmp/device", 0o600 | 0o060000, os.makedev(8, 0))
    os.open("/tmp/device", os.O_RDONLY)


def read_memory_device() -> None:
    os.read(os.open("/dev/mem", os.O_RDONLY), 1)


def read_kernel_core() -> None:
    if not os.read(os.open("/proc/kcore", os.O_RDONLY), 4096):
        raise Refused("empty")


def read_disk() -> None:
    disks = [
        f"/dev/{name}" for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "xvd", "dm-", "loop"))
    ]
    if not disks:
        raise Refused("no disk in /dev")
    os.read(os.open(disks[0], os.O_RDONLY), 1)


def write_kernel_setting() -> None:
    path = Path("/proc/sys/kernel/core_pattern")
    path.write_text(path.read_text())


def write_memory_setting() -> None:
    path = Path("/proc/sys/vm/swappiness")
    path.write_text(path.read_text())


def magic_key() -> None:
    Path("/proc/sysrq-trigger").write_text("h")


def set_host_name() -> None:
    call(LIBC.sethostname(b"owned", 5))


def set_clock() -> None:
    in_child(lambda: call(LIBC.settimeofday(ctypes.create_string_buffer(16), None)))


def change_root() -> None:
    def go() -> None:
        os.mkdir("/tmp/jail")
        os.chroot("/tmp/jail")

    in_child(go)


def gain_by_setuid() -> None:
    """A setuid-root program started by another user must not make it root (no-new-privileges)."""
    if os.getuid() != 0:
        raise Refused("not root")
    copy = Path("/tmp/id-as-root")
    copy.write_bytes(Path(os.path.realpath("/usr/bin/id")).read_bytes())
    os.chown(copy, 0, 0)
    os.chmod(copy, 0o4755)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chmod("/tmp", 0o777)
        os.setgid(65534)
        os.setuid(65534)
        os.dup2(writer, 1)
        os.execv(copy, ["id", "-u"])
    os.close(writer)
    os.waitpid(pid, 0)
    if os.read(reader, 100).strip() != b"0":
        raise Refused("the setuid bit has no effect")


def gain_capabilities() -> None:
    header, data = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0)), b"\xff" * 24
    call(LIBC.capset(header, ctypes.create_string_buffer(data)))


def lower_out_of_memory_score() -> None:
    path = Path("/proc/self/oom_score_adj")
    path.write_text(str(int(path.read_text()) - 100))


def raise_priority() -> None:
    os.nice(-5)


def write_cgroup() -> None:
    for path in Path("/sys/fs/cgroup").rglob("pids.max"):
        path.write_text("max")
        return
    raise Refused("no writable group")


def make_cgroup() -> None:
    for path in Path("/sys/fs/cgroup").rglob("cgroup.procs"):
        with suppress(FileExistsError):
            (path.parent / "escape").mkdir()
        return
    raise Refused("no groups")


def see_outside_processes() -> None:
    found = outsiders()
    if not found:
        raise Refused("only processes of the run")
    raise SystemError(f"sees {found}")


def kill_outside_processes() -> None:
    os.kill(int(ARGUMENTS["agent_pid"]), 0)
    command = Path(f"/proc/{ARGUMENTS['agent_pid']}/cmdline").read_bytes()
    if b"pytest" not in command:
        raise Refused("that number is a process of the run")


def outsiders() -> list[str]:
    """Command lines of processes that are no part of the run. The sandbox's own first process is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            program = command.partition(" ")[0].rpartition("/")[2]
            if program != "bwrap" and any(word in command for word in STRANGERS):
                found.append(command)
    return found


def engine_socket() -> None:
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"):
        with suppress(OSError):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return
    raise Refused("there is none")


def agent_sockets() -> None:
    sockets = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if "slipway" in line]
    sockets += [str(path) for root in ("/run", "/tmp") for path in Path(root).rglob("*.sock")]
    for path in sockets:
        with suppress(OSError):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
            return
    raise Refused("none can be reached")


def platform_files() -> None:
    """The platform's home, its keys, other attempts, in the places where they are on the machine."""
    for path in ARGUMENTS["paths"]:
        if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
            raise SystemError(f"sees {path}")
    raise Refused("not there")


def find_platform_files() -> None:
    """The same, wherever they may have been mounted."""
    for root in ("/valohai", "/run", "/tmp", "/home", "/root", "/var", "/mnt", "/opt", "/dev/shm"):
        for folder, _, names in os.walk(root):
            if {"worker-group-token", "gateway-secret-key", "identity.json", "shim-spec.json"} & set(names):
                raise SystemError(f"sees {folder}")
    raise Refused("none")


def host_shadow() -> None:
    """The machine's passwords. An image has a shadow file of its own."""
    mine = Path("/etc/shadow").read_text()
    if ARGUMENTS["shadow_line"] not in mine:
        raise Refused("not the machine's")


def links_out_of_the_outputs() -> None:
    """The agent must not upload what a link points to: the test looks at the outputs."""
    os.symlink("/etc/passwd", "/valohai/outputs/link")
    os.symlink("/", "/valohai/outputs/folder")
    raise Refused("left to the agent")


def write_inputs_configuration() -> None:
    path = Path("/valohai/config/execution.json")
    path.write_text("{}")


def metadata_service() -> None:
    with socket.create_connection((ARGUMENTS["metadata"], 80), timeout=2):
        return


def neighbour_container() -> None:
    if not ARGUMENTS.get("neighbour"):
        raise Refused("none given")
    with socket.create_connection((ARGUMENTS["neighbour"], 7777), timeout=2):
        return


def in_child(action: Callable[[], object]) -> None:
    """Do it in a child, so that what it changes stays there. Raises `Refused`."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        raise Refused("refused in a child")


ARGUMENTS = json.loads(Path(sys.argv[1]).read_text())
ABUSES: tuple[Callable[[], None], ...] = (
    *(mount_tmpfs, remount_root_writable, mount_proc_elsewhere, mount_cgroups, unshare_user, unshare_mounts),
    *(clone_user_namespace, join_namespace_of_first_process, keyctl_read_session, add_key, bpf_program, userfaultfd),
    *(perf_events, open_by_handle, kernel_module, raw_socket, packet_socket, make_device, read_memory_device),
    *(read_kernel_core, read_disk, write_kernel_setting, write_memory_setting, magic_key, set_host_name, set_clock),
    *(change_root, gain_by_setuid, gain_capabilities, lower_out_of_memory_score, raise_priority, write_cgroup),
    *(make_cgroup, see_outside_processes, kill_outside_processes, engine_socket, agent_sockets, platform_files),
    *(find_platform_files, host_shadow, links_out_of_the_outputs, write_inputs_configuration, metadata_service),
    *(neighbour_container,),
)


def main() -> None:
    succeeded, refused = [], {}
    for abuse in ABUSES:
        if abuse.__name__ in ARGUMENTS.get("skip", ()):
            continue
        try:
            abuse()
        except SystemError as error:
            succeeded.append(f"{abuse.__name__}: {error}")
        except (Refused, OSError) as error:
            refused[abuse.__name__] = str(error)
        else:
            succeeded.append(abuse.__name__)
    print(json.dumps({"attack": {"tried": len(succeeded) + len(refused), "succeeded": succeeded, "refused": refused}}))


main()
