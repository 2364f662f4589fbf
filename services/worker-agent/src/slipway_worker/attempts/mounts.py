"""Which folders of the machine a step may mount: those that the operator names, and never the platform's own."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from slipway_runtime.runtimes.protocol import UserMount
from slipway_schemas.executions import MountSpec
from slipway_worker.settings import WorkerSettings

_ENGINES: Final = tuple(
    Path(path)
    for path in (
        *("/run/docker.sock", "/var/run/docker.sock", "/run/docker", "/var/lib/docker"),
        *("/run/containerd", "/var/lib/containerd", "/run/podman", "/run/crio", "/run/user"),
        *("/proc", "/sys", "/dev/shm", "/dev/mem", "/boot"),  # noqa: S108 - nothing is written there
    )
)
"""Sockets and state of container engines, and windows into the machine: they would open all of it."""


def user_mounts(wanted: Iterable[MountSpec], settings: WorkerSettings) -> tuple[list[UserMount], list[str]]:
    """The mounts that are given, with links in their sources followed, and a notice for each that is not."""
    given, notices = [], []
    roots = [root.resolve() for root in settings.container.mount_roots]
    closed = {path.resolve() for path in (*settings.hidden_paths, settings.container.socket, *_ENGINES)}
    for mount in wanted:
        source = Path(mount.source).resolve()
        if not any(source.is_relative_to(root) for root in roots):
            named = ", ".join(map(str, roots)) or "nothing"
            notices.append(f"The mount of {mount.source} is left out: this worker lets steps mount {named}.")
        elif any(source.is_relative_to(path) or path.is_relative_to(source) for path in closed):
            notices.append(f"The mount of {mount.source} is left out: the platform or the engine has its files there.")
        else:
            given.append(UserMount(str(source), mount.destination, mount.readonly))
    return given, notices
