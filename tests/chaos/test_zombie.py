"""A worker that wakes after its lease ended changes nothing: what it writes with its old fencing token is refused."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from slipway_logs.ingest.access import STANDING_SECONDS
from slipway_schemas.logs import LogStream
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_worker.spool.frames import frame
from tests.chaos.project import storm as program
from tests.chaos.support import ledger
from tests.chaos.support.checker import log_problem, output_problems
from tests.chaos.support.clients import Seen
from tests.chaos.support.ground import Ground
from tests.chaos.support.plan import Job, chosen_seed, full_run
from tests.chaos.support.workers import Machine, alive, own_worker, second_agent, wait_until
from tests.e2e.support.api import Json

pytestmark = pytest.mark.bwrap

ROUNDS = 10 if full_run() else 1
TAKEOVER_SECONDS = 45.0
_ATTEMPTS = (
    "SELECT a.id::text, a.execution_id::text AS execution, a.number, a.superseded, a.worker_id::text AS worker"
    " FROM attempts a WHERE a.execution_id = ANY($1::uuid[]) ORDER BY a.number"
)
_FINALS = (
    "SELECT after FROM transitions WHERE execution_id = $1::uuid"
    " AND after IN ('complete', 'error', 'crashed', 'stopped')"
)


@pytest.fixture
async def second(ground: Ground, tmp_path: Path) -> AsyncIterator[Machine]:
    """A second worker with a home of its own."""
    agent: AgentProcess = second_agent(ground.site, tmp_path / "second", slots=4)
    await agent.start()
    machine = Machine(agent.home, agent.process_id)
    wait_until("the second worker registers", lambda: (agent.home / "identity.json").exists())
    yield machine
    machine.thaw()
    await agent.close()


@pytest.fixture
def thawed(ground: Ground, second: Machine) -> Iterator[None]:
    """Nobody stays frozen after a test."""
    yield
    own_worker(ground.site).thaw()
    second.thaw()


def _jobs(seed: int, seconds: float) -> list[Job]:
    return [Job(number, seed + number, 150, seconds, 2, 0, None) for number in range(3)]


@pytest.mark.timeout(300 * ROUNDS)
@pytest.mark.usefixtures("thawed")
async def test_a_zombie_changes_nothing(ground: Ground, second: Machine) -> None:
    """Frozen beyond its lease while its runs are taken over; it wakes when they are over, or while they go on."""
    seed = chosen_seed()
    print(f"\nchaos: seed {seed}")
    rounds = taken_over = 0
    for number in range(ROUNDS):
        machines = (own_worker(ground.site), second)
        zombie = machines[number % 2]
        wakes_late = number % 2 == 0
        jobs = _jobs(seed + 10 * number, 6.0 if wakes_late else 25.0)
        created = [ground.run("storm-again", **job.parameters) for job in jobs]
        for execution in created:
            ground.api.wait_line(execution, "began as")
        frozen = zombie.attempts()
        zombie.freeze()
        shims = [zombie.shim(attempt) for attempt in frozen]
        tokens = {attempt: zombie.token(attempt) for attempt in frozen}
        await _until_taken_over(ground, created, frozen)
        for attempt, token in tokens.items():
            await _refuses_everything(ground, zombie, attempt, token)
        if wakes_late:
            wait_until("the old runs end", lambda: all(zombie.run_ended(attempt) for attempt in frozen))  # noqa: B023
        zombie.thaw()
        wait_until("the old runs are gone", lambda: not any(alive(shim) for shim in shims))  # noqa: B023
        wait_until("the zombie has cleaned up", lambda: not set(frozen) & set(zombie.attempts()))  # noqa: B023
        for execution, job in zip(created, jobs, strict=True):
            await _is_as_if_nothing_had_happened(ground, execution, job)
        rounds += 1
        taken_over += len(frozen)
    assert taken_over >= rounds, "no run was ever taken over"
    counts = {"rounds": rounds, "runs taken over": taken_over, "old writes tried by hand": 5 * taken_over, "taken": 0}
    ledger.record("zombie worker", seed, counts, [])


async def _until_taken_over(ground: Ground, created: list[Json], frozen: list[str]) -> None:
    """Until the old attempts are superseded, and the log service has forgotten that they were current."""
    ids = [execution["id"] for execution in created]
    deadline = time.monotonic() + TAKEOVER_SECONDS
    while True:
        rows = await ground.site.rows("scheduler", _ATTEMPTS, ids)
        old = [row for row in rows if row["id"] in frozen]
        replaced = {row["execution"] for row in rows if row["number"] > 1}
        if all(row["superseded"] for row in old) and replaced >= {row["execution"] for row in old}:
            break
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.2)
    for execution in created:
        ground.api.wait(execution["id"], {"started", "complete"})
    await asyncio.sleep(STANDING_SECONDS)


async def _refuses_everything(ground: Ground, zombie: Machine, attempt: str, token: str) -> None:
    """Each kind of write, as the zombie would make it: a status, lines, metadata, an upload, the list of outputs."""
    authorization = {"Authorization": f"Bearer {token}"}
    now = int(time.time() * 1_000_000)
    line = frame(LogStream.STDOUT, b"of a zombie\n", first=0, lines=1, offset=0, time_us=now)
    record = frame(LogStream.METADATA, b'[[1, {"zombie": 1}]]', first=0, lines=1, offset=0, time_us=now)
    async with httpx.AsyncClient(base_url=ground.platform.url, timeout=30) as http:
        for path, options in (
            ("/workers/v1/logs", {"content": line}),
            ("/workers/v1/logs", {"content": record}),
            (f"/workers/v1/attempts/{attempt}/uploads", {"json": {"name": "late.bin", "size": 4}}),
            (f"/workers/v1/attempts/{attempt}/outputs", {"json": {"files": []}}),
        ):
            answer = await http.post(path, headers=authorization, **options)
            assert answer.status_code == 409, f"{path} answered {answer.status_code} {answer.text}"
            assert answer.json()["code"] == "superseded", answer.text
        fact = {"kind": "exited", "attempt_id": attempt, "seq": 99, "at": datetime.now(UTC).isoformat()}
        said = {
            "free": {"slots": 0, "cpus": 0, "memory_bytes": 0},
            "attempts": [],
            "facts": [{**fact, "code": 0, "reason": "success", "last_line": 1, "outputs": 1}],
            "wait_seconds": 0,
        }
        headers = {"Authorization": f"Bearer {zombie.worker_token}"}
        answer = await http.post("/workers/v1/sync", json=said, headers=headers)
        assert attempt in answer.json()["superseded"], answer.text


async def _is_as_if_nothing_had_happened(ground: Ground, execution: Json, job: Job) -> None:
    done = ground.api.wait_complete(execution["id"], timeout=120)
    seen = Seen(job, id=done["id"])
    assert log_problem(done, ground.api.raw_log(done).decode(), seen) is None
    listed = list(ground.api.outputs(done).values())
    assert output_problems(seen, listed, ended_by_itself=True) == []
    for datum in listed:
        ground.api.content(datum)
    finals = await ground.site.rows("scheduler", _FINALS, done["id"])
    assert [row["after"] for row in finals] == ["complete"]
    rows = await ground.site.rows("scheduler", _ATTEMPTS, [done["id"]])
    assert [row["superseded"] for row in rows] == [True] * (len(rows) - 1) + [False]
    assert done["attempt_count"] == len(rows) <= 2
    records = [line for line in program.lines(job.seed, job.lines) if line.startswith("{")]
    metadata = ground.api.get(f"executions/{done['id']}/metadata/") if records else []
    assert "zombie" not in str(metadata)
