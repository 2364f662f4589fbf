"""What a cluster says of a pod becomes plain words; the statuses are those that real clusters give."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway_builder.targets.kubernetes.words import explain_pod, explain_refusal, explain_sleep, parse_time
from slipway_schemas.inference.statuses import Problem

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
IMAGE = "registry.acme.test/reader@sha256:00"
POD_NETWORK_GONE = 'failed to setup network for sandbox "a": no IP addresses available'


def pod(status: dict[str, Any], limit: str = "64M") -> dict[str, Any]:
    container = {"image": IMAGE, "ports": [{"containerPort": 8000}], "resources": {"limits": {"memory": limit}}}
    return {"metadata": {"name": "a", "uid": "u"}, "spec": {"containers": [container]}, "status": status}


def container(**status: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"restartCount": 0, "state": {}, "lastState": {}, **status}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def running(seconds: int) -> dict[str, Any]:
    return {"running": {"startedAt": (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")}}


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "problem", "words"),
    [
        (
            container(
                state=waiting(
                    "ImagePullBackOff",
                    f'Back-off pulling image "{IMAGE}": ErrImagePull: rpc error: code = NotFound desc = failed to pull '
                    f'and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": {IMAGE}: not found',
                )
            ),
            Problem.IMAGE_PULL,
            f"The image {IMAGE} cannot be pulled: the registry does not have it (failed to pull",
        ),
        (
            container(state=waiting("ErrImagePull", "rpc error: code = Unknown desc = 401 Unauthorized")),
            Problem.IMAGE_PULL,
            "check the target's registry login (401 Unauthorized).",
        ),
        (
            container(restartCount=3, state=waiting("CrashLoopBackOff"), lastState=ended(3, message="a\nboom")),
            Problem.CRASH_LOOP,
            "The server ended with exit code 3. It was started again 3 times.",
        ),
        (container(state=ended(139)), Problem.CRASH_LOOP, "was ended by SIGSEGV (exit code 139)"),
        (container(state=ended(0, "Completed")), Problem.CRASH_LOOP, "ended by itself with exit code 0"),
        (
            container(restartCount=1, state=waiting("CrashLoopBackOff"), lastState=ended(137, "OOMKilled")),
            Problem.OUT_OF_MEMORY,
            "more memory than its limit of 64 MB and was ended. It was started again once. Raise",
        ),
        (
            container(state=waiting("RunContainerError"), lastState=ended(128, "StartError", 'exec: "uvicorn": gone')),
            Problem.CRASH_LOOP,
            "The container cannot be started",
        ),
        (
            container(state=waiting("CreateContainerConfigError", 'secret "a" not found')),
            Problem.CRASH_LOOP,
            'cannot be started: secret "a" not found',
        ),
        (
            container(state=running(12)),
            Problem.PROBE_FAILING,
            "The server runs for 12 s and does not accept connections on port 8000.",
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes."
            ),
            Problem.UNSCHEDULABLE,
            "The cluster's only node does not take the replica: 1 Insufficient cpu. Ask for less",
        ),
        (
            unscheduled("0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector."),
            Problem.UNSCHEDULABLE,
            "None of the cluster's 4 nodes takes the replica",
        ),
        (
            unscheduled('0/1 nodes are available: persistentvolumeclaim "models" not found.'),
            Problem.UNSCHEDULABLE,
            'persistentvolumeclaim "models" not found. Its volume claim must exist',
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            Problem.OUT_OF_MEMORY,
            "The cluster ended the replica: The node was low on resource: memory.",
        ),
    ],
)
def test_a_pod_that_does_not_serve_is_explained(status: dict[str, Any], problem: Problem, words: str) -> None:
    found = explain_pod(pod(status), (), NOW)
    assert found is not None
    assert found.problem is problem
    assert words in found.words
    assert ".." not in found.words


def test_the_last_lines_of_a_server_that_ended_are_kept() -> None:
    found = explain_pod(pod(container(state=ended(1, message="\n".join(map(str, range(50)))))), (), NOW)
    assert found is not None
    assert found.last_lines == tuple(map(str, range(30, 50)))


@pytest.mark.parametrize(
    "status",
    [
        container(state=running(3)),
        container(state=waiting("ContainerCreating")),
        {"phase": "Pending"},
        {},
    ],
)
def test_nothing_is_wrong_while_it_only_takes_time(status: dict[str, Any]) -> None:
    assert explain_pod(pod(status), (), NOW) is None


@pytest.mark.parametrize(
    ("reason", "message", "problem", "words"),
    [
        ("FailedMount", "MountVolume.SetUp failed", Problem.UNSCHEDULABLE, "A volume of the replica cannot be mounted"),
        ("FailedCreatePodSandBox", POD_NETWORK_GONE, Problem.REFUSED, "no IP addresses available"),
    ],
)
def test_what_only_events_say_is_said(reason: str, message: str, problem: Problem, words: str) -> None:
    events = [{"reason": "Other"}, {"reason": reason, "message": message}]
    found = explain_pod(pod(container(state=waiting("ContainerCreating"))), events, NOW)
    assert found is not None
    assert found.problem is problem
    assert words in found.words


def test_the_cause_of_a_pull_is_taken_from_an_event_where_the_pod_does_not_name_it() -> None:
    events = [{"reason": "Failed", "message": f'Failed to pull image "{IMAGE}": rpc error: code = X desc = not found'}]
    status = container(state=waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'))
    found = explain_pod(pod(status), events, NOW)
    assert found is not None
    assert "the registry does not have it (not found)" in found.words


@pytest.mark.parametrize(
    ("message", "problem", "words"),
    [
        (
            'pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2',
            Problem.QUOTA_EXCEEDED,
            "is used up: small, requested: pods=1",
        ),
        (
            'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            Problem.REFUSED,
            'The cluster refuses the endpoint\'s pods: violates PodSecurity "restricted:latest"',
        ),
    ],
)
def test_a_refusal_is_explained(message: str, problem: Problem, words: str) -> None:
    found = explain_refusal(message)
    assert found.problem is problem
    assert words in found.words


@pytest.mark.parametrize(("ready", "explained"), [("False", True), ("Unknown", False), ("True", False), (None, False)])
def test_an_endpoint_that_nothing_would_wake_is_explained(ready: str | None, explained: bool) -> None:
    message = "Triggers defined in ScaledObject are not working correctly"
    conditions = [{"type": "Ready", "status": ready, "message": message}] if ready else []
    found = explain_sleep({"status": {"conditions": [{"type": "Active", "status": "False"}, *conditions]}})
    assert (found is not None) is explained
    if found is not None:
        assert found.problem is Problem.NOT_WOKEN
        assert f"would wake it: {message}. It asks the routers" in found.words


def test_times_are_read_with_and_without_fractions() -> None:
    assert parse_time("2026-11-21T12:00:00Z") == NOW
    assert parse_time("2026-11-21T12:00:00.000000Z") == NOW
    assert parse_time(None) is None
