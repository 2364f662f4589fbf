"""What BuildKit and the cluster say of a build."""

from typing import Any

import pytest

from slipway_builder.images.builders.buildkit_pod import Fate, fate_of
from slipway_builder.images.builders.buildkit_progress import Progress

FAILED = """#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#4 sha256:ab12 13.63MB / 198.99MB 0.2s
#4 sha256:ab12 198.99MB / 198.99MB 1.7s done
#5 [2/2] RUN ["/bin/sh", "-c", "exec python3 -m pip"]
#5 0.412 ERROR: Could not find a version
#5 0.413 error: failed to solve: process "x" did not complete successfully: exit code: 7
#5 ERROR: process "/bin/sh -c exec" did not complete successfully: exit code: 1
------
 > [2/2] RUN ["/bin/sh", "-c", "exec python3 -m pip"]:
0.412 ERROR: Could not find a version
------
Dockerfile:2
error: failed to solve: process "/bin/sh -c exec" did not complete successfully: exit code: 1"""


def test_the_commands_lines_and_its_exit_code_are_told_from_buildkits() -> None:
    said: list[str] = []
    steps: list[str] = []
    progress = Progress(said.append, steps.append)
    for line in FAILED.splitlines():
        progress(line)
    assert said[0] == "ERROR: Could not find a version"
    assert progress.exit_code == 1, "what the command wrote is not BuildKit's word"
    assert steps[0] == "#1 [internal] load build definition from Dockerfile"
    assert "#4 sha256:ab12 198.99MB / 198.99MB 1.7s done" in steps
    assert not any("13.63MB" in line for line in steps)
    assert not any(line.startswith((" >", "Dockerfile", "----")) for line in steps)


def pod(state: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "c", "state": state}], **status}}


@pytest.mark.parametrize(
    ("found", "fate"),
    [
        ({}, Fate()),
        (pod({"waiting": {"reason": "ContainerCreating"}}), Fate()),
        (pod({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}), Fate(why="no such host")),
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "x"}}), Fate(hopeless=True, why="x")),
        (pod({"running": {}}), Fate(begun=True)),
        (pod({"terminated": {"exitCode": 0, "message": "{}"}}), Fate(ended=True, exit_code=0, message="{}")),
        (
            pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Fate(ended=True, exit_code=137, out_of_memory=True),
        ),
        (
            pod({"terminated": {"exitCode": 137}}, reason="Evicted", message="low on disk"),
            Fate(ended=True, why="low on disk"),
        ),
        ({"status": {"phase": "Failed", "reason": "NodeLost"}}, Fate(ended=True, why="NodeLost")),
        (
            {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}},
            Fate(why="0/1 nodes"),
        ),
    ],
)
def test_a_pods_status_is_read(found: dict[str, Any], fate: Fate) -> None:
    assert fate_of(found, "c") == fate
