"""What must not be lost: the log when a service dies, sameness of the same run, code whose branch is gone."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.api import Json
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab
from tests.e2e.support.repository import PROJECT, Checkout, git

pytestmark = pytest.mark.vh

LINES = 200_000


@pytest.fixture(scope="module")
def expected_log() -> bytes:
    """What `lines.py` prints, byte for byte."""
    command = [sys.executable, str(PROJECT / "lines.py"), "--count", str(LINES)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60, env={"PYTHONUTF8": "1"}).stdout


@pytest.mark.parametrize("service", ["worker", "logs"])
def test_the_log_is_complete_after_a_service_was_killed(
    lab: Lab, desk: Desk, expected_log: bytes, service: str
) -> None:
    """kill -9 in the middle of a run that prints 200,000 lines."""
    run = lab.run("lines", parameters={"count": LINES, "pause-every": 2000})
    seen = _wait_for_lines(lab, run, LINES // 10)
    assert seen < LINES * 9 // 10, "the run was too quick to be interrupted in its middle"
    former = lab.platform.kill(service)
    lab.platform.wait_restarted(service, former)
    done = lab.api.wait_complete(run["id"], timeout=150)

    assert done["attempt_count"] == 1
    assert lab.api.raw_log(done) == expected_log
    printed = desk.vh("exec", "logs", str(done["counter"]), "--all", "--no-status", timeout=180).out.splitlines()
    assert [line[12:].rstrip() for line in printed] == [line.rstrip() for line in expected_log.decode().splitlines()]
    stdout = [one for one in lab.api.events(done, limit=0)["events"] if one["stream"] == "stdout"]
    times = [one["time"] for one in stdout]
    assert len(set(times)) == LINES
    assert times == sorted(times)


def _wait_for_lines(lab: Lab, run: Json, wanted: int) -> int:
    deadline = time.monotonic() + 60
    while True:
        total: int = lab.api.events(run, limit=1)["total"]
        if total >= wanted:
            return total
        assert time.monotonic() < deadline, f"{total} lines after 60 s: {lab.api.story(lab.api.execution(run['id']))}"
        time.sleep(0.05)


def test_a_run_survives_an_agent_that_dies_before_it_ends(lab: Lab) -> None:
    """The run ends while no agent is there; the next one reports it as it was."""
    run = lab.run("slow", parameters={"seconds": 1.5})
    lab.api.wait_line(run, "slow begins")
    former = lab.platform.kill("worker")
    lab.platform.wait_restarted("worker", former)
    done = lab.api.wait_complete(run["id"])
    assert done["attempt_count"] == 1
    assert lab.api.output(done, "partial.txt") == b"written before the end\n"
    assert lab.api.lines(done)[-1] == "slow ends"


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+|Execution-Token \S+")
MEASURED = frozenset(
    {
        *("counter", "duration", "price", "phase", "status_detail", "valohai.execution-counter", "worker", "hostname"),
        "end_evidence",  # memory, disk and times as they were measured
    }
)


def masked(value: Any, key: str = "") -> Any:
    """The same value without ids, times, tokens and what names the worker or the number of the run."""
    if key in MEASURED:
        return "<measured>"
    if isinstance(value, Mapping):
        return {name: masked(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    if isinstance(value, str):
        return TOKEN.sub("<token>", TIME.sub("<time>", UUID.sub("<id>", value)))
    return value


def test_the_same_execution_twice_is_the_same(lab: Lab) -> None:
    """API detail, files in the config folder, outputs and log, once ids, times and worker are masked."""
    datum = lab.api.upload(lab.project, "same.csv", b"x\n1\n")
    wanted: dict[str, Any] = {
        "inputs": {"data": [f"datum://{datum['id']}"]},
        "parameters": {"lr": 0.5},
        "title": "Twice",
    }
    first, second = (lab.api.wait_complete(lab.run("snapshot", **wanted)["id"]) for _ in range(2))
    assert first["id"] != second["id"]

    def detail(execution: Json) -> Any:
        return masked({**execution, "outputs": sorted(one["name"] for one in execution["outputs"])})

    assert detail(first) == detail(second)
    files = [lab.api.outputs(one) for one in (first, second)]
    assert files[0].keys() == files[1].keys()
    config = sorted(name for name in files[0] if name.startswith("config/"))
    kinds = ("api", "execution", "inputs", "parameters", "runtime")
    assert {f"config/{kind}.json" for kind in kinds} <= set(config)
    for name in config:
        texts = [lab.api.content(one[name]).decode() for one in files]
        if name.endswith(".json"):
            assert masked(json.loads(texts[0])) == masked(json.loads(texts[1])), name
        else:
            counters = [re.sub(r"(execution-counter'?: )\d+", r"\1<measured>", text) for text in texts]
            assert masked(counters[0]) == masked(counters[1]), name
    others = sorted(files[0].keys() - set(config) - {"report.json"})
    assert others == ["nested/deep/blob.bin", "nested/deep/notes.txt", "result.txt"]
    assert [files[0][name]["sha256"] for name in others] == [files[1][name]["sha256"] for name in others]
    reports = [masked(json.loads(lab.api.output(one, "report.json"))) for one in (first, second)]
    assert reports[0] == reports[1]
    for stream in ("stdout", "stderr"):  # two pipes: how they interleave is up to the moment
        assert lab.api.lines(first, stream) == lab.api.lines(second, stream)
    assert sorted(lab.api.raw_log(first).splitlines()) == sorted(lab.api.raw_log(second).splitlines())
    assert _status_text(lab, first) == _status_text(lab, second)


def _status_text(lab: Lab, execution: Json) -> list[str]:
    """Status lines without what is measured or compared elsewhere: durations, the cache, files that name the run.

    Sorted, because lines of the scheduler and of the worker race each other within milliseconds.
    """
    measured = re.compile(
        r"\d+(\.\d+)? (ms|s|seconds)\b| \(from the cache\)"
        r"|(?<=Uploaded output )(config/\S+|report\.json): .*"  # they hold ids, times and a token
    )
    lines = (measured.sub("", masked(line)) for line in lab.api.status_lines(execution))
    return sorted(line.replace(f"#{execution['counter']}", "#<counter>") for line in lines)


def _stored_code(lab: Lab) -> set[str]:
    return {file.name for file in (lab.platform.home / "store" / "code").rglob("*") if file.is_file()}


@pytest.fixture
def own_checkout(lab: Lab, tmp_path: Path) -> Checkout:
    """A clone of the lab's remote, whose branches the test may change."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", git(lab.checkout.folder, "remote", "get-url", "origin"), str(folder))
    return Checkout(folder)


def test_a_commits_archive_is_stored_once(lab: Lab, own_checkout: Checkout) -> None:
    """Two runs in one project and one in another use the same object."""
    branch = f"once-{os.urandom(3).hex()}"
    (own_checkout.folder / "once.txt").write_text(branch)
    commit = own_checkout.commit("Add a file")
    before = _stored_code(lab)
    own_checkout.push(branch)
    lab.api.post(f"projects/{lab.project}/fetch/")
    other = lab.linked_project(branch, "sample")
    runs = [lab.run("quick", commit=commit), lab.run("quick", commit=commit), lab.api.run(other, commit, "quick")]
    for run in runs:
        lab.api.wait_complete(run["id"])
    assert len(_stored_code(lab) - before) == 1


def test_an_old_execution_runs_after_its_branch_was_deleted(lab: Lab, own_checkout: Checkout) -> None:
    """The snapshot is the platform's own."""
    branch = f"doomed-{os.urandom(3).hex()}"
    (own_checkout.folder / "valohai.yaml").write_text(
        "- step:\n    name: doomed\n    image: slipway-test/python:bookworm\n    command: cat only-here.txt\n"
    )
    (own_checkout.folder / "only-here.txt").write_text(f"{branch}\n")
    commit = own_checkout.commit("Add what will be deleted")
    own_checkout.push(branch)
    lab.api.post(f"projects/{lab.project}/fetch/")
    original = lab.api.wait_complete(lab.run("doomed", commit=branch, title="Original")["id"])
    assert original["commit"]["identifier"] == commit

    git(own_checkout.folder, "push", "--quiet", "origin", "--delete", branch)
    assert lab.api.post(f"projects/{lab.project}/fetch/")["errors"] == []
    gone = lab.api.call("POST", "executions/", json={"project": lab.project, "commit": branch, "step": "doomed"})
    assert gone.status_code == 400
    copied = lab.api.post(f"executions/{original['id']}/copy/")
    assert copied["counter"] > original["counter"]
    done = lab.api.wait_complete(copied["id"])
    assert lab.api.lines(done) == [branch]
    assert done["commit"]["identifier"] == commit
    again = lab.api.wait_complete(lab.run("doomed", commit=commit)["id"])
    assert lab.api.lines(again) == [branch]
