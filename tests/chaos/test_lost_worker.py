"""A machine that breaks down: with `autorestart` the execution is run again, without it the truth is told."""

from pathlib import Path

import pytest

from tests.chaos.project import storm as program
from tests.chaos.support.checker import log_problem
from tests.chaos.support.clients import Seen
from tests.chaos.support.ground import Ground
from tests.chaos.support.plan import Job
from tests.chaos.support.workers import Machine, own_worker, second_agent, wait_until
from tests.e2e.support.api import FINAL, Json

pytestmark = pytest.mark.bwrap

_LOST_AFTER = "UPDATE environments SET settings = settings || '{\"lost_after_seconds\": 3}' WHERE slug = 'local'"
_FINALS = (
    "SELECT after, reason FROM transitions WHERE execution_id = $1::uuid"
    " AND after IN ('complete', 'error', 'crashed', 'stopped')"
)
JOB = Job(0, 4711, 120, 5.0, 2, 0, None)


@pytest.fixture
async def impatient(ground: Ground) -> None:
    """An environment that gives a lost worker up after seconds, not a quarter of an hour."""
    await ground.site.rows("scheduler", _LOST_AFTER)


async def _judged(ground: Ground, again: Json, alone: Json) -> None:
    """One end each: run again and complete, and crashed."""
    done = ground.api.wait_complete(again["id"], timeout=120)
    assert done["attempt_count"] == 2
    assert log_problem(done, ground.api.raw_log(done).decode(), Seen(JOB, id=done["id"])) is None
    assert sorted(ground.api.outputs(done)) == ["output-0.bin", "output-1.bin"]
    assert ground.api.output(done, "output-0.bin") == program.output(JOB.seed, 0)
    crashed = ground.api.wait(alone["id"], FINAL, timeout=120)
    assert (crashed["status"], crashed["end_reason"]) == ("crashed", "worker_lost")
    assert crashed["attempt_count"] == 1
    for execution, end in ((done, "complete"), (crashed, "crashed")):
        finals = await ground.site.rows("scheduler", _FINALS, execution["id"])
        assert [row["after"] for row in finals] == [end]


def _two_runs(ground: Ground) -> tuple[Json, Json]:
    runs = (ground.run("storm-again", **JOB.parameters), ground.run("storm", **JOB.parameters))
    for run in runs:
        ground.api.wait_line(run, "began as")
    return runs


@pytest.mark.usefixtures("impatient")
async def test_a_machine_that_comes_back_with_its_disk(ground: Ground) -> None:
    """Everything is killed at once; the agent starts again on the same home and says what was lost."""
    again, alone = _two_runs(ground)
    machine = own_worker(ground.site)
    machine.break_down()
    ground.platform.wait_restarted("worker", machine.agent_pid)
    await _judged(ground, again, alone)
    wait_until("nothing is left", lambda: ground.site.leftovers() == [])


@pytest.mark.usefixtures("impatient")
async def test_a_machine_that_never_comes_back(ground: Ground, tmp_path: Path) -> None:
    """A second worker is gone with its home, and one with an empty home takes its place."""
    busy = [ground.run("storm", **{**JOB.parameters, "seconds": 20.0}) for _ in range(4)]
    for run in busy:
        ground.api.wait_line(run, "began as")
    lost, fresh = (second_agent(ground.site, tmp_path / name, slots=4) for name in ("lost", "fresh"))
    await lost.start()
    try:
        again, alone = _two_runs(ground)  # the platform's own worker has no slot left
        machine = Machine(lost.home, lost.process_id)
        assert len(machine.attempts()) == 2
        machine.break_down()
        await fresh.start()
        await _judged(ground, again, alone)
        for run in busy:
            assert ground.api.wait_complete(run["id"])["attempt_count"] == 1
    finally:
        await fresh.close()
