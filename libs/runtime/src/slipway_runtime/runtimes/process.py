"""Runs attempts as processes: in a bubblewrap sandbox where that works, plain where not."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from slipway_runtime.cgroups import groups_of_attempt, make_cgroups, read_usage, remove_cgroups
from slipway_runtime.command import SANDBOX_ENTRY_ROOT, EntryPaths
from slipway_runtime.control_files import write_control_files
from slipway_runtime.layout import AttemptLayout, ProcessSpec, ShimIdentity, ShimSpec
from slipway_runtime.paths import ContainerPaths
from slipway_runtime.process_tree import tree_usage
from slipway_runtime.runtimes.docker import KEPT_CAPABILITIES
from slipway_runtime.runtimes.protocol import (
    AttemptPlan,
    Launcher,
    PreparedAttempt,
    PullProgress,
    RegistryAuth,
    RunState,
    RuntimeInfo,
    RunUsage,
)
from slipway_runtime.runtimes.sandbox import (
    base_environment,
    filtered,
    hiding_arguments,
    proc_arguments,
    sandbox_works,
    system_arguments,
)
from slipway_runtime.venvs import VenvPool

_HOME: Final = PurePosixPath("/run/slipway/home")


class ProcessRuntime:
    """Ignores the image and says so. Each attempt has a Python environment of its own first on PATH."""

    name = "process"

    def __init__(self, home: Path, *, sandbox: bool = True, hidden: Sequence[Path] = ()) -> None:
        """`hidden` are folders of the platform; `home` is always hidden."""
        self._hidden = (home, *hidden)
        self._venvs = VenvPool(home / "venvs")
        self._bwrap = shutil.which("bwrap") if sandbox else None
        self._attempts: dict[str, AttemptLayout] = {}
        self._swept = False

    @property
    def launcher(self) -> Launcher | None:
        """Processes are looked after by a shim."""
        return None

    def paths(self, layout: AttemptLayout) -> ContainerPaths:
        """`/valohai` in a sandbox, else below the attempt's directory. Call `check` first."""
        return ContainerPaths() if self._bwrap else ContainerPaths(PurePosixPath(layout.valohai))

    async def check(self) -> RuntimeInfo:
        """Try the sandbox once; where it does not work, runs are plain processes and `reason` says so."""
        if self._bwrap is not None and not await sandbox_works(self._bwrap):
            self._bwrap = None
        if not self._swept:
            self._swept = True
            await self._venvs.sweep()
        self._venvs.prepare_spare()
        if self._bwrap is None:
            reason = "runs are not isolated: bubblewrap (bwrap) is not installed or may not be used here"
            return RuntimeInfo(available=True, version="plain", reason=reason)
        return RuntimeInfo(available=True, version="bubblewrap")

    async def image_present(self, image: str) -> bool:
        """There are no images, so none is missing."""
        return True

    async def pull(self, image: str, auth: RegistryAuth | None, progress: PullProgress) -> None:
        """Nothing to do."""

    async def prepare(self, plan: AttemptPlan) -> PreparedAttempt:
        """Make the environment, the control groups and the command line."""
        layout = plan.layout
        layout.create()
        venv = await self._venvs.take(plan.attempt_id)
        self._attempts[plan.attempt_id] = layout
        sandboxed = self._bwrap is not None
        if sandboxed:
            root, home = SANDBOX_ENTRY_ROOT, _HOME
            entry = EntryPaths(root / "control", root / "pipes", root / "state", self.paths(layout).repository)
        else:
            home = PurePosixPath(layout.scratch / "home")
            directories = (layout.control, layout.pipes, layout.state, layout.valohai / "repository")
            entry = EntryPaths(*(PurePosixPath(directory) for directory in directories))
        notices = [f"The process runtime ignores the image {plan.image}: the run uses this machine's programs."]
        if not sandboxed:
            notices.append("WARNING: this run is not isolated from the machine, because bubblewrap is not available.")
        notices += write_control_files(layout, plan.command, plan.environment, entry)
        cgroups = await asyncio.to_thread(make_cgroups, plan.attempt_id, plan.resources)
        rlimits: dict[str, int] = {}
        if not cgroups:
            if plan.resources.memory_bytes:
                rlimits["DATA"] = plan.resources.memory_bytes
            notices.append("Control groups cannot be used here: memory is limited per process, CPU is not limited.")
        argv = ["/bin/sh", str(entry.control / "entry.sh")]
        if self._bwrap is not None:
            argv = [
                *filtered(self._bwrap, layout.root),
                *_sandbox_arguments(plan, entry, venv, self._hidden),
                "--",
                *argv,
            ]
        tmp = PurePosixPath("/tmp") if sandboxed else PurePosixPath(layout.scratch / "tmp")  # noqa: S108
        environment = base_environment(venv, home, tmp)
        process = ProcessSpec(argv, environment, "/", sandboxed, cgroups, rlimits)
        return PreparedAttempt(ShimSpec(plan.attempt_id, process=process, limits=plan.limits), tuple(notices))

    async def inspect(self, attempt_id: str) -> RunState:
        """A process ends with its shim, so the shim is looked at."""
        layout = self._attempts.get(attempt_id)
        identity = ShimIdentity.read(layout.shim_file) if layout else None
        return RunState(exists=identity is not None, running=identity is not None and identity.alive())

    async def usage(self, attempt_id: str, layout: AttemptLayout) -> RunUsage | None:
        """By the control groups, else by the process table."""
        return await asyncio.to_thread(_usage, attempt_id, layout)

    async def cleanup(self, attempt_id: str) -> None:
        """Delete the environment and the control groups."""
        self._attempts.pop(attempt_id, None)
        await self._venvs.release(attempt_id)
        await asyncio.to_thread(remove_cgroups, attempt_id)

    async def aclose(self) -> None:
        """Delete the spare environment."""
        await self._venvs.aclose()


def _usage(attempt_id: str, layout: AttemptLayout) -> RunUsage | None:
    found = read_usage(groups_of_attempt(attempt_id))
    if found is None and (identity := ShimIdentity.read(layout.shim_file)) is not None:
        found = tree_usage(identity.pid) if identity.alive() else None
    return found


def _sandbox_arguments(plan: AttemptPlan, entry: EntryPaths, venv: Path, hidden: Sequence[Path]) -> list[str]:
    layout = plan.layout
    arguments = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.getuid() == 0:
        for capability in KEPT_CAPABILITIES:
            arguments += ["--cap-add", f"CAP_{capability}"]
    arguments += [*system_arguments(), *hiding_arguments(hidden)]
    arguments += [*proc_arguments(), "--dev", "/dev", "--tmpfs", "/run", "--dir", "/var/tmp"]  # noqa: S108
    for name in ("repository", "inputs", "outputs"):
        arguments += ["--bind", str(layout.valohai / name), f"/valohai/{name}"]
    arguments += ["--ro-bind", str(layout.valohai / "config"), "/valohai/config"]
    arguments += ["--bind", str(layout.scratch / "tmp"), "/tmp"]  # noqa: S108 - the sandbox's own
    arguments += ["--bind", str(layout.scratch / "home"), str(_HOME)]
    arguments += ["--ro-bind", str(layout.control), str(entry.control)]
    arguments += ["--bind", str(layout.pipes), str(entry.pipes), "--bind", str(layout.state), str(entry.state)]
    resolver = Path("/etc/resolv.conf").resolve()
    if resolver.is_relative_to("/run") and resolver.exists():
        arguments += ["--ro-bind", str(resolver), str(resolver)]
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        arguments += ["--ro-bind", str(prefix), str(prefix)]
    arguments += ["--bind", str(venv), str(venv)]
    for mount in plan.mounts:
        arguments += ["--ro-bind" if mount.readonly else "--bind", mount.source, mount.destination]
    if plan.resources.gpus:
        for device in sorted(Path("/dev").glob("nvidia*")):
            arguments += ["--dev-bind", str(device), str(device)]
    return arguments
