"""Why a pod does not serve, in plain words, from what the cluster says of it."""

import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from slipway_schemas.inference.statuses import Problem

CONNECT_PATIENCE: Final = timedelta(seconds=8)
"""A server that accepts no connection for longer than this is mentioned; it may still come up."""

LAST_LINES: Final = 20
_PULL_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PostStartHookError",
    }
)
_START_REASONS: Final = frozenset({"StartError", "ContainerCannotRun"})
_VOLUME_EVENTS: Final = frozenset({"FailedMount", "FailedAttachVolume", "ProvisioningFailed"})
_NOISE: Final = re.compile(r"rpc error: code = \w+ desc = |^Back-off pulling image \"[^\"]*\"(: )?|^ErrImagePull: ")
_AFTERTHOUGHT: Final = re.compile(r" no new claims to deallocate,| preemption:")
"""After it the scheduler says what it has tried besides."""

_SIGNALLED: Final = 128
_SUFFIXES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a replica does not serve."""

    problem: Problem
    words: str
    last_lines: tuple[str, ...] = ()
    asks_for_log: bool = False
    """The pod's own log, which it still writes, may tell more."""


def pod_ready(pod: Mapping[str, Any]) -> bool:
    """Whether requests are sent to the pod."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts(pod: Mapping[str, Any]) -> int:
    """How often the pod's server was started again."""
    return sum(int(one.get("restartCount", 0)) for one in pod.get("status", {}).get("containerStatuses", ()))


def explain_pod(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]], now: datetime) -> Trouble | None:
    """Say what is wrong with a pod that is not ready; None while nothing is wrong but the time it takes.

    `events` are the warnings about this pod, the newest last.
    """
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and not status.get("containerStatuses"):
        return _evicted(status)
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _unscheduled(condition)
    for container in status.get("containerStatuses", ()):
        found = _explain_container(pod, container, now)
        if found is not None:
            return _with_event(found, events)
    if status.get("phase") == "Failed":
        return _evicted(status)
    return _from_events(events)


def explain_refusal(message: str) -> Trouble:
    """Say why the cluster makes no pods of an endpoint."""
    if "exceeded quota" in message:
        words = message.partition("exceeded quota: ")[2]
        return Trouble(Problem.QUOTA_EXCEEDED, f"The quota of the cluster's namespace is used up: {words}")
    text = message.partition(" is forbidden: ")[2] or message
    return Trouble(Problem.REFUSED, f"The cluster refuses the endpoint's pods: {text}")


def explain_sleep(scaled: Mapping[str, Any]) -> Trouble | None:
    """Say why nothing would wake an endpoint that is asleep; None when KEDA is content."""
    for condition in scaled.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "False":
            said = str(condition.get("message", "")).rstrip(".") or "it gives no reason"
            words = f"The endpoint is asleep, and KEDA does not hear of requests that would wake it: {said}."
            hint = "It asks the routers at the Service slipway-router-health, port 8089, or where `router_load` says."
            return Trouble(Problem.NOT_WOKEN, f"{words} {hint}")
    return None


def parse_time(text: str | None) -> datetime | None:
    """Read a time of the API server."""
    if not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC)


def _unscheduled(condition: Mapping[str, Any]) -> Trouble:
    message = _AFTERTHOUGHT.split(str(condition.get("message", "")))[0].strip().rstrip(".")
    if condition.get("reason") == "SchedulingGated":
        return Trouble(Problem.UNSCHEDULABLE, f"Something in the cluster holds the replica back: {message}.")
    nodes = re.match(r"0/(\d+) nodes are available: (.*)", message, re.DOTALL)
    if nodes is None:
        return Trouble(
            Problem.UNSCHEDULABLE, f"No node takes the replica: {message or 'the scheduler gives no reason'}."
        )
    count = "The cluster's only node" if nodes[1] == "1" else f"None of the cluster's {nodes[1]} nodes"
    verb = "does not take the replica" if nodes[1] == "1" else "takes the replica"
    hint = _scheduling_hint(message)
    return Trouble(Problem.UNSCHEDULABLE, f"{count} {verb}: {nodes[2]}." + (f" {hint}" if hint else ""))


def _scheduling_hint(message: str) -> str:
    if "Insufficient" in message:
        return "Ask for less under the endpoint's `resources`, or add a node."
    if "node affinity/selector" in message:
        return "No node carries the labels of the endpoint's `node-selector`."
    if "taint" in message:
        return "Add a matching entry to the endpoint's `tolerations`."
    if "persistentvolumeclaim" in message:
        return "Its volume claim must exist in the target's namespace."
    return ""


def _explain_container(pod: Mapping[str, Any], container: Mapping[str, Any], now: datetime) -> Trouble | None:
    state = container.get("state", {})
    waiting, running, ended = state.get("waiting"), state.get("running"), state.get("terminated")
    previous = container.get("lastState", {}).get("terminated")
    reason = (waiting or {}).get("reason", "")
    if waiting is not None and reason in _PULL_REASONS:
        return _pull(_image(pod) or str(container.get("image", "")), str(waiting.get("message", "")))
    if waiting is not None and reason in _CONFIG_REASONS:
        message = str(waiting.get("message", ""))
        return Trouble(Problem.CRASH_LOOP, f"The container cannot be started: {_plain(message)}")
    if ended is not None:
        return _ended(pod, container, ended)
    if previous is not None and (waiting is not None or not _connecting_for(running, CONNECT_PATIENCE, now)):
        return _ended(pod, container, previous)
    if running is not None and _connecting_for(running, CONNECT_PATIENCE, now):
        return _silent(pod, running, now)
    return None


def _connecting_for(running: Mapping[str, Any] | None, patience: timedelta, now: datetime) -> bool:
    begun = parse_time((running or {}).get("startedAt"))
    return begun is not None and now - begun >= patience


def _pull(image: str, message: str) -> Trouble:
    said = _plain(message)
    lower = said.lower()
    if not said:
        words = "the registry gives no reason yet."
    elif "not found" in lower or "manifest unknown" in lower:
        words = f"the registry does not have it ({said})."
    elif any(word in lower for word in ("unauthorized", "forbidden", "denied", "authentication", "authorization")):
        words = f"the registry does not let the cluster in; check the target's registry login ({said})."
    elif any(word in lower for word in ("no such host", "refused", "timeout", "unreachable", "i/o", "x509", "tls")):
        words = f"the nodes do not reach the registry ({said})."
    else:
        words = f"{said}."
    return Trouble(Problem.IMAGE_PULL, f"The image {image} cannot be pulled: {words}")


def _ended(pod: Mapping[str, Any], container: Mapping[str, Any], ended: Mapping[str, Any]) -> Trouble:
    code = int(ended.get("exitCode", 0))
    message = str(ended.get("message", ""))
    count = int(container.get("restartCount", 0))
    again = f" It was started again {_times(count)}." if count else ""
    if ended.get("reason") in _START_REASONS:
        return Trouble(Problem.CRASH_LOOP, f"The container cannot be started: {_plain(message)}.{again}")
    lines = tuple(message.splitlines()[-LAST_LINES:])
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        words = f"more memory than its limit of {limit}" if limit else "more memory than its node has"
        hint = "Raise `resources.memory.max` of the endpoint."
        return Trouble(Problem.OUT_OF_MEMORY, f"The server used {words} and was ended.{again} {hint}", lines)
    how = f"ended with exit code {code}"
    if code > _SIGNALLED:
        how = f"was ended by {_signal(code - _SIGNALLED)} (exit code {code})"
    elif code == 0:
        how = "ended by itself with exit code 0; it must go on running"
    return Trouble(Problem.CRASH_LOOP, f"The server {how}.{again}", lines)


def _silent(pod: Mapping[str, Any], running: Mapping[str, Any], now: datetime) -> Trouble:
    begun = parse_time(running.get("startedAt")) or now
    seconds = int((now - begun).total_seconds())
    ports = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports", ())]
    words = f"The server runs for {seconds} s and does not accept connections on port {ports[0] if ports else '?'}."
    hint = "It must listen on all interfaces, on the endpoint's `port`."
    return Trouble(Problem.PROBE_FAILING, f"{words} {hint}", asks_for_log=True)


def _evicted(status: Mapping[str, Any]) -> Trouble:
    message = str(status.get("message") or status.get("reason") or "the cluster gives no reason").strip().rstrip(".")
    problem = Problem.OUT_OF_MEMORY if "memory" in message else Problem.CRASH_LOOP
    return Trouble(problem, f"The cluster ended the replica: {message}.")


def _from_events(events: Iterable[Mapping[str, Any]]) -> Trouble | None:
    for event in reversed(list(events)):
        message = _plain(str(event.get("message", "")))
        if event.get("reason") in _VOLUME_EVENTS:
            return Trouble(Problem.UNSCHEDULABLE, f"A volume of the replica cannot be mounted: {message}")
        if event.get("reason") == "FailedCreatePodSandBox":
            return Trouble(Problem.REFUSED, f"The node cannot make the replica's network or sandbox: {message}")
    return None


def _with_event(found: Trouble, events: Iterable[Mapping[str, Any]]) -> Trouble:
    """Older clusters name a pull's cause in an event only."""
    if found.problem is not Problem.IMAGE_PULL or "gives no reason" not in found.words:
        return found
    for event in reversed(list(events)):
        message = str(event.get("message", ""))
        pulled = re.match(r'Failed to pull image "([^"]+)": (.*)', message, re.DOTALL)
        if pulled is not None:
            return _pull(pulled[1], pulled[2])
    return found


def _image(pod: Mapping[str, Any]) -> str:
    containers = pod.get("spec", {}).get("containers", ())
    return str(containers[0].get("image", "")) if containers else ""


def _memory_limit(pod: Mapping[str, Any]) -> str:
    for container in pod.get("spec", {}).get("containers", ()):
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        if limit is not None:
            return _megabytes(str(limit))
    return ""


def _megabytes(quantity: str) -> str:
    """An amount of bytes; the cluster writes it with the shortest suffix."""
    parts = re.fullmatch(r"(\d+)(\D*)", quantity)
    if parts is None or parts[2] not in _SUFFIXES:
        return quantity
    return f"{round(int(parts[1]) * _SUFFIXES[parts[2]] / 1_000_000)} MB"


def _plain(message: str) -> str:
    """Drop the wrapping of remote calls."""
    previous = ""
    while message != previous:
        previous, message = message, _NOISE.sub("", message).strip()
    return message.rstrip(".")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
