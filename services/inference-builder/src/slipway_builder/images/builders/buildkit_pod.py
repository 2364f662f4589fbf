"""What the cluster says of the pod of a build."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_HOPELESS: Final = frozenset(
    {"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
)
"""Waiting is no use after these; `ErrImagePull` alone may pass."""
_QUIET: Final = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Fate:
    """How far a build has come."""

    begun: bool = False
    ended: bool = False
    hopeless: bool = False
    """It waits for what will not come."""
    why: str = ""
    """Why it waits, or why it ended before its time."""
    exit_code: int | None = None
    message: str = ""
    """What it left as its last word."""
    out_of_memory: bool = False


def fate_of(pod: Mapping[str, Any], container: str) -> Fate:
    """Read a pod of one container."""
    status = pod.get("status", {})
    states = [one.get("state", {}) for one in status.get("containerStatuses", ()) if one["name"] == container]
    state: Mapping[str, Any] = states[0] if states else {}
    if ended := state.get("terminated"):
        reason = str(ended.get("reason", ""))
        return Fate(
            ended=True,
            exit_code=None if status.get("reason") else int(ended["exitCode"]),
            message=str(ended.get("message", "")),
            out_of_memory=reason == "OOMKilled",
            why=_said(status),
        )
    if status.get("phase") == "Failed":
        return Fate(ended=True, why=_said(status))
    if "running" in state:
        return Fate(begun=True)
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    if reason and reason not in _QUIET:
        return Fate(hopeless=reason in _HOPELESS, why=f"{waiting.get('message') or reason}")
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Fate(why=str(condition.get("message", "")))
    return Fate()


def _said(status: Mapping[str, Any]) -> str:
    return str(status.get("message") or status.get("reason") or "")
