"""Parts of a bubblewrap sandbox: the machine's programs without its secrets, and a `/proc` of its own."""

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from slipway_runtime.runtimes.seccomp import sandbox_filter

_SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix", "sys")
_PRIVATE: Final = (
    *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d"),
    *(
        "/etc/ssh",
        "/etc/ssl/private",
        "/etc/docker",
        "/etc/containerd",
        "/etc/kubernetes",
        "/etc/krb5.keytab",
        "/etc/slipway",
    ),
)
"""What of the machine's settings no run may see; a run is root there."""
_PROC_READ_ONLY: Final = ("/proc/sys", "/proc/fs", "/proc/bus", "/proc/irq", "/proc/sysrq-trigger")
_PROC_COVERED: Final = (
    *("/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/kmsg"),
    *("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware"),
)
_PASSED_ON: Final = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PASSED_ON_PREFIXES: Final = ("PIP_", "UV_")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHECK_SECONDS: Final = 10.0


def base_environment(venv: Path, home: PurePosixPath, tmp: PurePosixPath) -> dict[str, str]:
    """What a run gets of our own variables: how to reach package indexes, nothing else."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES) or name.lower() in _PROXIES
    }
    path = f"{venv}/bin:{_SYSTEM_PATH}"
    return {**passed, "PATH": path, "VIRTUAL_ENV": str(venv), "HOME": str(home), "TMPDIR": str(tmp)}


def filtered(bwrap: str, folder: Path) -> list[str]:
    """The command line's begin: bubblewrap with the system call filter, which it reads from a file in `folder`."""
    program = sandbox_filter()
    if program is None:
        return [bwrap]
    file = folder / "seccomp.bpf"
    file.write_bytes(program)
    return ["/bin/sh", "-c", f'exec "$0" "$@" 9<{shlex.quote(str(file))}', bwrap, "--seccomp", "9"]


def system_arguments() -> list[str]:
    """The machine's programs, read-only. Homes, data and the platform itself are not to be seen."""
    arguments = []
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    return arguments


def proc_arguments() -> list[str]:
    """A `/proc` of the sandbox's own processes. What of it belongs to the whole machine is read-only or covered, as
    Docker does it: a run is root, and root may write there without any capability."""
    arguments = ["--proc", "/proc"]
    for path in map(Path, _PROC_READ_ONLY):
        if path.exists():
            arguments += ["--ro-bind", str(path), str(path)]
    for path in map(Path, _PROC_COVERED):
        if path.is_dir():
            arguments += ["--tmpfs", str(path)]
        elif path.exists():
            arguments += ["--ro-bind", "/dev/null", str(path)]
    return arguments


def hiding_arguments(hidden: Sequence[Path]) -> list[str]:
    """Covers what the machine's programs do not need: its own keys, and folders of the platform among its programs."""
    arguments = []
    shown = [Path("/", name) for name in _SYSTEM]
    covered = [path.resolve() for path in hidden]
    covered = [path for path in covered if any(path.is_relative_to(root) for root in shown)]
    for path in (*map(Path, _PRIVATE), *covered):
        if path.is_dir():
            arguments += ["--tmpfs", str(path)]
        elif path.exists():
            arguments += ["--ro-bind", "/dev/null", str(path)]
    return arguments


async def sandbox_works(bwrap: str) -> bool:
    """Whether a sandbox can be made here."""
    arguments = ["--unshare-pid", *system_arguments(), "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"]
    process = await asyncio.create_subprocess_exec(
        bwrap, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
