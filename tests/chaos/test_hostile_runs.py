"""Runs that harm themselves: each gets its true end reason, loses no byte of its log, and harms no other run.

A canary runs beside them all on the same worker: it prints a line ten times a second and must end as if alone.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from slipway_testing.git_servers import GitHttpServer
from tests.e2e.support.api import Api, Json
from tests.e2e.support.platform import Platform
from tests.e2e.support.repository import git

PROJECT = """\
- step: {name: hostile, image: "slipway-test/python:bookworm", environment: local, command: "true"}
"""
CANARY_LINES = 400
PIDS = 256
MIB = 1024**2

CANARY = f"""python3 -u -c '
import time
begin = time.monotonic()
for number in range({CANARY_LINES}):
    print("canary", number)
    time.sleep(0.05)
print("alive after", time.monotonic() - begin)
'"""
LONG_LINE = "python3 -c 'import sys; [sys.stdout.write(\"0123456789abcdef\" * 65536) for _ in range(100)]'"
FLOOD = "python3 -c 'import sys; [sys.stdout.write(\"%015d\\n\" % n) for n in range(4_000_000)]'"
BINARY = "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)'; exit 0"
MEMORY = "python3 -c 'print(\"taking memory\", flush=True); kept = [bytearray(1 << 20) for _ in range(4096)]'"
FORKS = """python3 -c '
import os, time
while True:
    if os.fork() == 0:
        time.sleep(600)
'"""
SUICIDE = "echo farewell; kill -9 -1; kill -9 $$; sleep 600"
INIT_KILL = "echo still here; kill -9 1; sleep 0.2; echo alive; exit 5"


@dataclass(frozen=True)
class Hall:
    """A platform with a project whose one step runs any command."""

    api: Api
    project: str
    commit: str

    def run(self, command: str, memory_mib: int | None = None) -> Json:
        """Start a command, with a memory limit if one is given."""
        limits = {} if memory_mib is None else {"memory": memory_mib}
        config = {"kubernetes": {"containers": {"workload": {"resources": {"limits": limits}}}}}
        return self.api.run(self.project, self.commit, "hostile", command=[command], runtime_config=config)

    def attempt(self, execution: Json) -> Json:
        """What happened to the newest attempt."""
        found: Json = self.api.get(f"/api/v1/executions/{execution['id']}/attempts/")["attempts"][0]
        return found

    def printed(self, execution: Json) -> bytes:
        """The archived log as it was printed, by the page that gives it as text."""
        project = self.api.get(f"projects/{self.project}/")
        headers = {"Cookie": f"slipway_session={self.api.token}"}
        answer = self.api.call("GET", f"{project['urls']['display']}execution/{execution['id']}/log/", headers=headers)
        assert answer.status_code == 200, answer.text[:500]
        return answer.content


@pytest.fixture(
    scope="module",
    params=[
        # A run that kills everything would kill this machine's processes without a sandbox.
        pytest.param("process", marks=pytest.mark.bwrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def hall(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    settings = {
        "SLIPWAY_WORKER__CONTAINER__PIDS_LIMIT": str(PIDS),
        "SLIPWAY_WORKER__USAGE__FIRST_SECONDS": "0.3",
        "SLIPWAY_WORKER__USAGE__INTERVAL_SECONDS": "0.5",
        "SLIPWAY_WORKER__USAGE__SEND_SECONDS": "1",
    }
    platform = Platform(request.param, environment=settings)
    server = GitHttpServer(tmp_path_factory.mktemp("git-server"))
    try:
        platform.start()
        remote = server.create("hostile")
        folder = tmp_path_factory.mktemp("checkout")
        (folder / "valohai.yaml").write_text(PROJECT)
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "Add the step")
        git(folder, "push", "--quiet", str(remote), "HEAD:refs/heads/main")
        with Api(platform.url, platform.credentials["token"]) as api:
            project = api.post("projects/", {"name": f"hostile-{uuid4().hex[:6]}"})["id"]
            api.call("PUT", f"projects/{project}/repository/", json={"url": server.url("hostile")})
            assert api.post(f"projects/{project}/fetch/")["errors"] == []
            yield Hall(api, project, git(folder, "rev-parse", "HEAD"))
    finally:
        code = platform.stop()
        server.close()
        print(platform.service_logs())
        platform.delete()
    assert code == 0
    assert platform.processes_left() == []


@pytest.fixture
def canary(hall: Hall) -> Iterator[Json]:
    """A run beside the hostile ones."""
    run = hall.run(CANARY)
    hall.api.wait_line(run, "canary 3")
    yield run
    done = hall.api.wait_complete(run["id"])
    lines = hall.printed(done).decode().splitlines()
    assert lines[:-1] == [f"canary {number}" for number in range(CANARY_LINES)]
    assert hall.attempt(done)["number"] == 1


def ended(hall: Hall, run: Json, status: str, reason: str, timeout: float = 120) -> Json:
    """Wait for the end; gives what happened to the attempt."""
    found = hall.api.wait(run["id"], {status}, timeout)
    attempt = hall.attempt(found)
    print(f"{reason}: {attempt['message']} {attempt['evidence']}")
    assert (found["end_reason"], attempt["reason"]) == (reason, reason), attempt
    assert attempt["message"] == found["end_message"]
    assert [begin["phase"] for begin in attempt["phases"]] == [
        *("preparing", "pulling", "fetching", "running", "uploading")
    ]
    return attempt


def test_hostile_runs_end_truly_and_harm_nobody(hall: Hall, canary: Json) -> None:
    memory = hall.run(MEMORY, memory_mib=64)
    forks = hall.run(FORKS)
    suicide = hall.run(SUICIDE)

    attempt = ended(hall, memory, "error", "container_oom")
    assert "64 MiB" in attempt["message"]
    assert attempt["exit_code"] == 137
    assert attempt["evidence"]["memory"]["limit_bytes"] == 64 * MIB
    assert attempt["last_lines"][0] == {"stream": "stdout", "text": "taking memory"}
    assert "resources.memory.max" in attempt["hint"]

    attempt = ended(hall, suicide, "error", "user_code")
    assert (attempt["exit_code"], attempt["last_lines"][0]["text"]) == (137, "farewell")
    assert "signal 9 (SIGKILL)" in attempt["message"]
    assert not attempt["evidence"].get("engine", {}).get("oom_killed")

    attempt = ended(hall, forks, "error", "user_code")
    assert attempt["exit_code"] == 1
    assert "Resource temporarily unavailable" in attempt["last_lines"][-1]["text"]

    init = hall.run(INIT_KILL)
    attempt = ended(hall, init, "error", "user_code")
    assert (attempt["exit_code"], [line["text"] for line in attempt["last_lines"]]) == (5, ["still here", "alive"])


def test_every_byte_of_a_hostile_log_is_kept(hall: Hall, canary: Json) -> None:
    long = hall.run(LONG_LINE)
    binary = hall.run(BINARY)
    hall.api.wait_complete(binary["id"])
    raw = hall.printed(binary)
    assert raw == bytes(range(256)) * 4096
    hall.api.wait_complete(long["id"], timeout=240)
    raw = hall.printed(long)
    expected = b"0123456789abcdef" * 65536 * 100
    assert (len(raw), hashlib.sha256(raw).digest()) == (len(expected), hashlib.sha256(expected).digest())
    flood = hall.run(FLOOD)
    hall.api.wait_complete(flood["id"], timeout=240)
    raw = hall.printed(flood)
    expected = b"".join(b"%015d\n" % number for number in range(4_000_000))
    assert (len(raw), hashlib.sha256(raw).digest()) == (len(expected), hashlib.sha256(expected).digest())
    assert "\ufffd" in hall.attempt(binary)["last_lines"][-1]["text"]


def test_usage_and_failures_are_to_be_read(hall: Hall) -> None:
    busy = hall.run(
        "python3 -c 'import time\nkept = bytearray(80 << 20)\nend = time.time() + 4\nwhile time.time() < end: pass'"
    )
    done = hall.api.wait_complete(busy["id"])
    deadline = time.monotonic() + 10
    while len(series := usage(hall, done)) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert max(sample["memory_bytes"] for sample in series) > 80 * MIB
    assert 0.2 < max(sample.get("cpus") or 0 for sample in series) < 2.5
    assert all(sample["disk_bytes"] >= 0 for sample in series)
    times = [sample["time_us"] for sample in series]
    assert times == sorted(set(times))

    first = hall.run("echo 'KeyError: 17' >&2; exit 1")
    second = hall.run("echo 'KeyError: 18' >&2; exit 1")
    for one in (first, second):
        hall.api.wait(one["id"], {"error"})
    failures = hall.api.get(f"/api/v1/projects/{hall.project}/failures/")["failures"]
    group = next(one for one in failures if one["line"].startswith("KeyError"))
    assert (group["count"], group["reason"]) == (2, "user_code")
    assert [one["id"] for one in group["executions"]] == [second["id"], first["id"]]
    page = hall.api.call("GET", f"/api/v1/executions/{uuid4()}/attempts/")
    assert (page.status_code, page.headers["content-type"]) == (404, "application/problem+json")


def usage(hall: Hall, execution: Json) -> list[dict[str, Any]]:
    found = hall.api.get(f"/api/v1/executions/{execution['id']}/usage/")
    return found[0]["samples"] if found else []
