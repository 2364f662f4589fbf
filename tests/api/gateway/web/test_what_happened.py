"""What happened to each attempt, what it used, and which failures a project has: as pages and as JSON."""

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from slipway_kit.ids import new_id

LINE = "ValueError: <script>alert(1)</script> 17"
EVIDENCE = {
    "exit_code": 137,
    "signal": 9,
    "memory": {"peak_bytes": 60 * 1024**2, "limit_bytes": 64 * 1024**2, "oom_kills": 1, "source": "control group"},
    "disk": {"free_bytes": 5 * 1024**3, "total_bytes": 40 * 1024**3},
    "phases": {"running": "2026-01-01T00:00:02+00:00", "preparing": "2026-01-01T00:00:01+00:00"},
    "last_lines": [{"stream": "stderr", "text": LINE}],
}


@pytest.fixture
async def attempts(lab, context, execute, relay) -> list[UUID]:
    """Two attempts of the failed run and one of the crashed run."""
    async with context.db.read() as session:
        worker = await session.scalar(text("SELECT id FROM scheduler_pub.worker_v1"))
    ids = [new_id(), new_id(), new_id()]
    runs = [lab.executions["error"], lab.executions["error"], lab.executions["crashed"]]
    rows: list[tuple[Any, ...]] = [
        (1, "registry_unreachable", "No answer from <b>registry</b>.", {"failed_in": "pulling"}, "f1", None),
        (2, "user_code", "It failed.", EVIDENCE, "f2", LINE),
        (1, "user_code", "It failed.", {}, "f2", "an older line"),
    ]
    for attempt, run, (number, reason, message, evidence, mark, line) in zip(ids, runs, rows, strict=True):
        await execute(
            "INSERT INTO scheduler.attempts (id, execution_id, number, worker_id, environment_id, owner_id, phase,"
            " detail, superseded, last_seq, ended_at, exit_code, end_reason, end_message, end_evidence, fingerprint,"
            " failure_line)"
            " SELECT $1, id, $3, $4, environment_id, 1, 'ended', '', false, 0, now() - $10 * interval '1 hour',"
            " 137, $5, $6, $7, $8, $9 FROM scheduler.executions WHERE id = $2",
            *(attempt, run, number, worker, reason, message, json.dumps(evidence), mark, line, 3 - number),
        )
    relay.usage = [
        {
            "attempt_id": str(ids[1]),
            "number": 2,
            "count": 3,
            "samples": [
                {"time_us": n * 10**7, "cpus": n / 10, "memory_bytes": n * 1024**2, "disk_bytes": 0} for n in (1, 2, 3)
            ],
        }
    ]
    return ids


async def test_the_page_tells_what_happened_and_draws_what_was_used(ann, lab, attempts) -> None:
    page = await ann.get(f"{lab.root}execution/{lab.executions['error']}/")
    assert page.index("Attempt 2</strong> on worker worker-1: user code, exit code 137") < page.index("Attempt 1<")
    for words in (
        "It failed.",
        "Read the last lines of the log",
        "60.0 MiB of 64.0 MiB allowed",
        "1 processes, says the control group",
        "5.0 GiB free of 40.0 GiB",
        "ValueError: &lt;script&gt;alert(1)&lt;/script&gt; 17",
        "No answer from &lt;b&gt;registry&lt;/b&gt;.",
        "Memory, MiB: 3 values from 1 to 3",
        "CPU, cores: 3 values",
    ):
        assert words in page, words
    assert page.index("<dt>Preparing</dt>") < page.index("<dt>Running</dt>")
    assert LINE not in page


async def test_attempts_and_usage_as_json_for_those_who_may_see_the_execution(ann, bob, lab, attempts) -> None:
    place = f"/api/v1/executions/{lab.executions['error']}"
    newest, oldest = (await ann.http.get(f"{place}/attempts/")).json()["attempts"]
    assert (newest["number"], newest["reason"], newest["worker"]) == (2, "user_code", "worker-1")
    assert [begin["phase"] for begin in newest["phases"]] == ["preparing", "running"]
    assert newest["last_lines"] == EVIDENCE["last_lines"]
    assert newest["evidence"] == {name: EVIDENCE[name] for name in ("exit_code", "signal", "memory", "disk")}
    assert oldest["evidence"] == {"failed_in": "pulling"}
    (usage,) = (await ann.http.get(f"{place}/usage/?points=100")).json()
    assert [sample["memory_bytes"] for sample in usage["samples"]] == [n * 1024**2 for n in (1, 2, 3)]
    for what in ("attempts", "usage"):
        refused = await bob.http.get(f"{place}/{what}/")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")


async def test_equal_failures_are_one_line_of_the_project(ann, bob, lab, attempts) -> None:
    place = f"/api/v1/projects/{lab.project_id}/failures/"
    found = (await ann.http.get(place)).json()
    assert [(one["fingerprint"], one["count"], one["line"]) for one in found["failures"]] == [
        ("f2", 2, LINE),
        ("f1", 1, ""),
    ]
    runs = [one["id"] for one in found["failures"][0]["executions"]]
    assert runs == [str(lab.executions["error"]), str(lab.executions["crashed"])]
    assert found["failures"][0]["first_seen"] < found["failures"][0]["last_seen"]
    page = await ann.get(lab.root)
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt; 17" in page
    assert "f2</span>" in page
    for foreign in (place, f"/api/v1/projects/{new_id()}/failures/", "/api/v1/projects/x/failures/"):
        assert (await bob.http.get(foreign)).status_code == 404
