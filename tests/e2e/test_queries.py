"""Rows 15, 16, 30 to 33, 35, 36 and 43: what `vh` shows of environments, executions, logs and outputs."""

import hashlib
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.support.api import Json
from tests.e2e.support.desk import ANSI, Desk, in_table
from tests.e2e.support.lab import Lab

pytestmark = pytest.mark.vh

TWO_FIELDS_MISSING = """
- step:
    name: broken
- step:
    name: fine
    image: some/image
    command: echo fine
"""


def test_environments_with_quota_price_and_queue(lab: Lab, desk: Desk) -> None:
    """Row 15."""
    lines = desk.vh("environments", "-g", "-p", "-q").out.splitlines()
    for header in ("Slug", "GPU Specification", "Per-Hour USD$", "Per-User Quota", "Jobs in Queue"):
        assert header in lines[0], lines
    row = next(line for line in lines if "This machine" in line)
    assert "local" in row
    assert "unlimited" in row
    listed = {one["slug"]: one for one in desk.json("environments", "-q")}
    assert isinstance(listed["local"]["unfinished_job_count"], int)
    plain = lab.api.get("environments/", limit=9000)["results"]
    assert all(isinstance(one["per_user_queue_quota"], int) for one in plain)


def test_lint_counts_the_errors(desk: Desk, own_copy: Desk) -> None:
    """Row 16."""
    assert "No errors" in desk.vh("lint").both
    broken = own_copy.folder / "broken.yaml"
    broken.write_text(TWO_FIELDS_MISSING)
    assert "2 errors" in own_copy.vh("lint", str(broken), code=2).both


def test_execution_list_filters(lab: Lab, desk: Desk, finished: Json) -> None:
    """Row 30."""
    deleted, waiting = lab.run("quick"), lab.run("slow")
    lab.api.wait_complete(deleted["id"])
    lab.api.delete(f"executions/{deleted['id']}/")

    complete = desk.json("exec", "list", "--status", "complete", "-o", "-n", "5")
    assert 0 < len(complete) <= 5
    assert {one["status"] for one in complete} == {"complete"}
    assert [one["counter"] for one in complete] == sorted((one["counter"] for one in complete), reverse=True)
    incomplete = {one["id"]: one["status"] for one in desk.json("exec", "list", "--status", "incomplete")}
    assert waiting["id"] in incomplete
    assert set(incomplete.values()) <= {"created", "queued", "started", "stopping"}
    everything = [one["id"] for one in desk.json("exec", "list")]
    assert finished["id"] in everything
    assert deleted["id"] not in everything
    assert deleted["id"] in [one["id"] for one in desk.json("exec", "list", "-d")]
    human = desk.vh("exec", "list").out
    assert re.search(rf"^\s*{finished['counter']}\s.*complete.*pre\s.*\d:\d\d:\d\d.*http://", human, re.MULTILINE), (
        human
    )
    lab.api.post(f"executions/{waiting['id']}/stop/", status=200)


def test_execution_info_shows_inputs_and_parameters(lab: Lab, desk: Desk, finished: Json) -> None:
    """Row 31."""
    out = desk.vh("exec", "info", str(finished["counter"])).out
    assert re.search(in_table("status", "complete"), out), out
    assert re.search(in_table("project name", lab.name), out), out
    assert re.search(in_table("environment name", "This machine"), out), out
    assert re.search(r"data\s+\W*\s*datum://[0-9a-f-]{36}", out), out
    assert re.search(r"lr\s+\W*\s*0\.5", out), out
    assert desk.json("exec", "info", f"#{finished['counter']}")["id"] == finished["id"]


def test_execution_info_when_the_environment_is_gone(lab: Lab, desk: Desk) -> None:
    """Row 31, second half: the name stays with the execution."""
    lab.platform.slipway("environment", "add", "passing", "--name", "Passing by")
    execution = lab.run("quick", environment="passing")
    assert execution["environment"]["slug"] == "passing"
    lab.api.post(f"executions/{execution['id']}/stop/", status=200)
    lab.api.wait(execution["id"], {"stopped"})
    lab.platform.slipway("environment", "remove", "passing")
    assert "passing" not in [one["slug"] for one in lab.api.get("environments/")["results"]]
    assert lab.api.execution(execution["id"])["environment"]["name"] == "Passing by"
    assert "Passing by" in desk.vh("exec", "info", str(execution["counter"])).out


def test_an_execution_that_does_not_exist(desk: Desk) -> None:
    """Row 43."""
    answer = desk.vh("exec", "info", "99999", code=1)
    assert "does not exist" in answer.err


def test_logs_are_ordered_filtered_and_complete(lab: Lab, desk: Desk, finished: Json) -> None:
    """Row 32."""
    counter = str(finished["counter"])
    long = lab.run("lines", parameters={"count": 50_000})
    printed = desk.vh("exec", "logs", counter).out.splitlines()
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d\d .*", line) for line in printed), printed
    texts = [line[12:] for line in printed]
    assert texts.index("pre begins") < texts.index("pre ends")
    assert "to stderr" in texts
    assert [line[:11] for line in printed] == sorted(line[:11] for line in printed)
    assert desk.vh("exec", "logs", counter, "--all").out.splitlines() == printed
    without = [line[12:] for line in desk.vh("exec", "logs", counter, "--no-stdout").out.splitlines()]
    assert "to stderr" in without
    assert "pre begins" not in without
    only_stdout = desk.vh("exec", "logs", counter, "--no-stderr", "--no-status").out.splitlines()
    assert [line[12:] for line in only_stdout] == lab.api.lines(finished)

    lab.api.wait_complete(long["id"])
    everything = desk.vh("exec", "logs", str(long["counter"]), "--all", "--no-status", timeout=120).out.splitlines()
    assert [line[12:24] for line in everything] == [f"line {number:07d}" for number in range(50_000)]
    short = desk.vh("exec", "logs", str(long["counter"]))
    assert re.search(r"There are \d+ events, but only the last 2000 are shown", short.both)
    assert len(short.out.splitlines()) >= 2000
    assert "line 0049999" in short.out


def test_stream_started_while_queued_shows_every_line_once(lab: Lab, desk: Desk) -> None:
    """Row 33: all slots are taken when the stream starts."""
    occupants = [lab.run("slow") for _ in range(4)]
    for occupant in occupants:
        lab.api.wait(occupant["id"], {"started"})
    streamed = lab.run("lines", parameters={"count": 90, "pause-every": 2})
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(desk.vh, "exec", "logs", "latest", "--stream", timeout=120)
        time.sleep(4)  # for the client to have read the execution
        assert lab.api.execution(streamed["id"])["status"] == "queued"
        for occupant in occupants:
            lab.api.post(f"executions/{occupant['id']}/stop/", status=200)
        answer = streaming.result()
    lines = [line[12:24] for line in answer.out.splitlines() if line[12:].startswith("line ")]
    assert lines == [f"line {number:07d}" for number in range(90)]
    assert "The execution has finished (status queued)" in answer.err, "vh names the status that it saw first"
    assert lab.api.wait_complete(streamed["id"])["exit_code"] == 0
    for occupant in occupants:
        lab.api.wait(occupant["id"], {"stopped"})


def test_watch_refreshes_its_screen(lab: Lab, desk: Desk, finished: Json) -> None:
    """Row 35."""
    with_env = {"COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [str(desk.runner.venv / "bin" / "vh"), "exec", "watch", str(finished["counter"])],
        cwd=desk.folder,
        env=desk.runner.environment({**with_env, "PYTHONUNBUFFERED": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(5)
    assert process.poll() is None, "watch ends only when it is told to"
    process.kill()
    shown = ANSI.sub("", process.communicate(timeout=10)[0])
    assert "Traceback" not in shown
    assert shown.count("Status: complete") >= 2
    assert f"#{finished['counter']}" in shown
    assert "pre ends" in shown


def test_outputs_are_downloaded_once_and_byte_for_byte(lab: Lab, desk: Desk, finished: Json, tmp_path: Path) -> None:
    """Row 36."""
    counter = str(finished["counter"])
    target = tmp_path / "outputs"
    first = desk.vh("exec", "outputs", counter, "-d", str(target))
    assert re.search(r"nested/deep/blob\.bin\s+\W*\s*datum://", first.out), first.out
    files = {str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*") if file.is_file()}
    assert set(files) == {"report.json", "result.txt", "nested/deep/blob.bin", "nested/deep/notes.txt"}
    assert files["nested/deep/blob.bin"] == bytes(range(256)) * 512
    listed = lab.api.outputs(finished)
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == {
        name: datum["sha256"] for name, datum in listed.items()
    }
    assert "No outputs to download" in desk.vh("exec", "outputs", counter, "-d", str(target)).both

    only_text = tmp_path / "text"
    desk.vh("exec", "outputs", counter, "-d", str(only_text), "-f", "*.txt")
    found = {str(file.relative_to(only_text)) for file in only_text.rglob("*") if file.is_file()}
    assert found == {"result.txt", "nested/deep/notes.txt"}

    synced = tmp_path / "synced"
    desk.vh("exec", "outputs", counter, "-d", str(synced), "--sync", timeout=60)
    assert (synced / "nested" / "deep" / "blob.bin").read_bytes() == files["nested/deep/blob.bin"]


def test_summarize_puts_metadata_side_by_side(desk: Desk, finished: Json) -> None:
    """Beside the rows: `exec summarize` reads cumulative metadata."""
    out = desk.vh("exec", "summarize", str(finished["counter"])).out
    assert "0.75" in out
    assert "accuracy" in out
