"""Running again, stopping, losing and finding workers, quotas, and the answer to why something waits."""

import asyncio
from uuid import uuid4

import pytest

from slipway_scheduler.executions import consumers

QUICK = {
    "lease_seconds": 0.4,
    "judge_seconds": 0.1,
    "grace_seconds": 0.0,
    "outage_seconds": 5.0,
}


async def test_a_platform_failure_is_retried_three_times(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    for _ in range(4):
        _, attempt = await machine.start(user_code=False)
        await machine.finish(attempt, machine.failed(attempt, "registry_unreachable", retryable=True))
    row = await scheduler.until(execution, "crashed")
    assert (row["end_reason"], row["attempt_count"]) == ("registry_unreachable", 4)
    assert await scheduler.steps(execution) == ["created", *["queued", "started"] * 4, "crashed"]


async def test_after_user_code_only_autorestart_runs_again(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    for autorestart, status in ((False, "crashed"), (True, "queued")):
        execution = await scheduler.create(environment, autorestart=autorestart)
        _, attempt = await machine.start()
        await machine.finish(attempt, machine.exited(attempt, 130, "preempted"))
        assert (await scheduler.read(execution))["status"] == status


async def test_stop_ladder(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    _, attempt = await machine.start()
    held = asyncio.create_task(machine.sync(wait=10))
    await asyncio.sleep(0.1)
    assert await scheduler.stop(execution) == {"status": "stopping", "level": 1}
    order = {"attempt_id": str(attempt), "level": 1, "reason": "user"}
    assert (await held)["stops"] == [order]
    machine.stop_levels[attempt] = 1
    assert (await machine.sync())["stops"] == []
    assert await scheduler.stop(execution) == {"status": "stopping", "level": 2}
    assert (await machine.sync())["stops"] == [order | {"level": 2}]
    machine.stop_levels[attempt] = 2
    assert await scheduler.stop(execution) == {"status": "stopping", "level": 2}, "the outputs are not given up by it"
    assert (await machine.sync())["stops"] == []
    machine.attempts[attempt] = "uploading"
    await machine.sync()
    assert await scheduler.stop(execution) == {"status": "stopping", "level": 3}
    assert (await machine.sync())["stops"] == [order | {"level": 3}]
    await machine.finish(attempt, machine.exited(attempt, 0))
    row = await scheduler.read(execution)
    assert (row["status"], row["end_reason"], row["exit_code"]) == ("stopped", "user", 0)
    assert await scheduler.stop(execution) == {"status": "stopped", "level": 0}


async def test_what_does_not_run_is_stopped_at_once(scheduler) -> None:
    environment = await scheduler.environment()
    created = await scheduler.create(environment, archive=None)
    queued = await scheduler.create(environment)
    for execution in (created, queued):
        assert (await scheduler.stop(execution))["status"] == "stopped"
    assigned = await scheduler.create(environment)
    machine = await scheduler.machine(environment)
    attempt = (await machine.assigned())["attempt_id"]
    assert (await scheduler.stop(assigned))["status"] == "stopped"
    answer = await machine.sync(machine.fact(attempt, "accepted"))
    assert answer["superseded"] == [attempt]
    assert (await scheduler.read(assigned))["status"] == "stopped"


async def test_no_slot_is_given_twice(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment, slots=2)
    for _ in range(5):
        await scheduler.create(environment)
    given: set[str] = set()
    for _ in range(4):
        answer = await machine.sync(wait=0.3, free=2)
        given |= {one["attempt_id"] for one in answer["assignments"]}
    assert len(given) == 2


async def test_a_lost_worker_is_replaced_before_user_code(start) -> None:
    async with start(**QUICK) as scheduler:
        environment = await scheduler.environment()
        lost = await scheduler.machine(environment, name="lost")
        execution = await scheduler.create(environment)
        _, attempt = await lost.start(user_code=False)
        await scheduler.until(execution, "queued")
        other = await scheduler.machine(environment, name="other")
        again = await other.assigned()
        assert again["document"]["number"] == 2
        answer = await lost.sync(lost.exited(attempt))
        assert answer["superseded"] == [str(attempt)]
        assert (await scheduler.read(execution))["status"] == "queued"


async def test_an_unreachable_run_is_adopted_when_its_worker_returns(start) -> None:
    async with start(**QUICK) as scheduler:
        environment = await scheduler.environment()
        machine = await scheduler.machine(environment)
        execution = await scheduler.create(environment)
        _, attempt = await machine.start()
        async with asyncio.timeout(6):
            while "unreachable since" not in (row := await scheduler.read(execution))["status_detail"]:
                await asyncio.sleep(0.05)
        assert row["status"] == "started"
        answer = await machine.sync()
        assert answer["superseded"] == []
        assert (await scheduler.read(execution))["status_detail"] == ""
        await machine.finish(attempt, machine.exited(attempt))
        assert (await scheduler.read(execution))["status"] == "complete"


async def test_after_lost_after_it_has_crashed(start) -> None:
    async with start(**QUICK) as scheduler:
        environment = await scheduler.environment(settings={"lost_after_seconds": 1})
        machine = await scheduler.machine(environment)
        execution = await scheduler.create(environment)
        _, attempt = await machine.start()
        row = await scheduler.until(execution, "crashed")
        assert row["end_reason"] == "worker_lost"
        assert "was not heard of since" in row["end_message"]
        assert (await machine.sync())["superseded"] == [str(attempt)]


@pytest.mark.parametrize("outage_seconds", [0.5, 60])
async def test_time_in_which_the_scheduler_was_down_does_not_count(start, outage_seconds: float) -> None:
    """However short it was: a start is an outage, too."""
    quick = QUICK | {"outage_seconds": outage_seconds}
    async with start(**(quick | {"judge_seconds": 60})) as scheduler:
        environment = await scheduler.environment(settings={"lost_after_seconds": 0})
        machine = await scheduler.machine(environment)
        execution = await scheduler.create(environment)
        _, attempt = await machine.start()
    await asyncio.sleep(0.8)
    async with start(**(quick | {"grace_seconds": 1.5})) as scheduler:
        await asyncio.sleep(0.5)
        assert (await scheduler.read(execution))["status"] == "started"
        machine.http = scheduler.workers
        assert (await machine.sync())["superseded"] == []
        await machine.finish(attempt, machine.exited(attempt))
        assert (await scheduler.read(execution))["status"] == "complete"


async def test_a_worker_that_lost_its_runs_gives_them_up(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    _, attempt = await machine.start()
    machine.attempts.clear()
    answer = await machine.sync()
    assert answer["missing"] == [str(attempt)]
    answer = await machine.sync(lost=answer["missing"])
    assert answer["missing"] == []
    row = await scheduler.read(execution)
    assert (row["status"], row["end_reason"]) == ("crashed", "worker_lost")


async def test_a_sync_that_comes_late_does_not_end_a_run(start) -> None:
    """The network held it back: the worker did not have the attempt yet when it was sent."""
    async with start(lease_seconds=2.1) as scheduler:
        environment = await scheduler.environment()
        machine = await scheduler.machine(environment)
        execution = await scheduler.create(environment)
        _, attempt = await machine.start()
        await asyncio.sleep(0.3)
        now, machine.attempts = machine.attempts, {}
        late = await machine.sync()
        assert late["missing"] == [str(attempt)]
        machine.attempts = now
        assert (await machine.sync(lost=[str(attempt)]))["missing"] == [], "what it names it has"
        await machine.finish(attempt, machine.exited(attempt))
        row = await scheduler.read(execution)
        assert (row["status"], row["attempt_count"]) == ("complete", 1)


async def test_quota(scheduler) -> None:
    environment = await scheduler.environment(per_user_queue_quota=1)
    machine = await scheduler.machine(environment)
    await scheduler.create(environment)
    second = await scheduler.create(environment)
    other = await scheduler.create(environment, creator_id=2)
    assert (await scheduler.read(second))["status"] == "created"
    assert (await scheduler.read(other))["status"] == "queued"
    assert [one["kind"] for one in (await scheduler.waiting(second))["blockers"]] == ["quota"]
    _, attempt = await machine.start()
    await machine.finish(attempt, machine.exited(attempt))
    await scheduler.until(second, "queued")


async def test_waiting_says_why_and_where(scheduler) -> None:
    environment = await scheduler.environment("big")
    first = await scheduler.create(environment)
    second = await scheduler.create(environment)
    waiting = await scheduler.waiting(second)
    assert (waiting["position"], waiting["queue_length"]) == (2, 2)
    assert waiting["blockers"][0]["message"].startswith("No worker is connected to environment big.")
    await scheduler.internal.patch(f"/internal/v1/executions/{second}", json={"priority": 9})
    assert (await scheduler.waiting(first))["position"] == 2
    await scheduler.internal.patch(f"/internal/v1/environments/{environment}", json={"enabled": False})
    assert (await scheduler.waiting(first))["blockers"][0]["kind"] == "environment_disabled"
    missing = await scheduler.internal.get(f"/internal/v1/executions/{uuid4()}/waiting")
    assert missing.status_code == 404


@pytest.mark.parametrize(("key", "status"), [("code/aa/b.tar.zst", "queued"), (None, "crashed")])
async def test_code_archived_queues_or_ends(scheduler, key: str | None, status: str) -> None:
    environment = await scheduler.environment()
    project = str(uuid4())
    execution = await scheduler.create(environment, archive=None, project_id=project, commit="abc")
    assert [one["kind"] for one in (await scheduler.waiting(execution))["blockers"]] == ["code_snapshot"]
    payload = {"project_id": project, "identifier": "abc", "archive_key": key, "archive_sha256": "s", "error": "gone"}
    await consume(scheduler, "gateway.commit.archived", payload)
    row = await scheduler.read(execution)
    assert row["status"] == status
    assert row["spec"]["code"]["archive_key"] == key


async def test_a_deleted_project_is_stopped_and_only_ended_executions_are_deleted(scheduler) -> None:
    environment = await scheduler.environment()
    project = str(uuid4())
    execution = await scheduler.create(environment, project_id=project)
    early = await scheduler.internal.delete(f"/internal/v1/executions/{execution}")
    assert (early.status_code, early.json()["code"]) == (409, "not_final")
    await consume(scheduler, "gateway.project.deleted", {"project_id": project})
    row = await scheduler.read(execution)
    assert (row["status"], row["end_message"]) == ("stopped", "The project was deleted.")
    late = await scheduler.internal.delete(f"/internal/v1/executions/{execution}")
    assert late.status_code == 204
    assert (await scheduler.read(execution))["deleted_at"] is not None


async def consume(scheduler, name: str, payload: dict) -> None:
    """Apply one event of the gateway."""
    envelope = {"name": name, "payload": payload}
    async with scheduler.db.transaction() as session:
        await consumers.handlers()[name](session, _Envelope(**envelope))


class _Envelope:
    def __init__(self, name: str, payload: dict) -> None:
        self.name, self.payload, self.actor = name, payload, None
