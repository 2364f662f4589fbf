"""Running again: where, how often, and what is said of it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

QUICK = {"lease_seconds": 0.4, "judge_seconds": 0.1, "grace_seconds": 0.0}


async def requeues(scheduler, execution: UUID) -> list[dict[str, Any]]:
    statement = text(
        "SELECT before, reason, message, attempt_id FROM transitions WHERE execution_id = :id AND after = 'queued'"
        " AND reason IS NOT NULL ORDER BY position"
    )
    async with scheduler.db.read() as session:
        return [dict(row) for row in (await session.execute(statement, {"id": execution})).mappings()]


async def test_it_goes_to_another_worker_and_says_why(scheduler) -> None:
    environment = await scheduler.environment()
    bad = await scheduler.machine(environment, name="bad")
    await bad.sync()
    execution = await scheduler.create(environment)
    _, attempt = await bad.start(user_code=False)
    good = await scheduler.machine(environment, name="good")
    await good.sync(free=0)
    await bad.finish(attempt, bad.failed(attempt, "store_unreachable", retryable=True))
    assert (await bad.sync(wait=0.5))["assignments"] == [], "it was given to the worker on which it failed"
    waiting = await scheduler.waiting(execution)
    assert [one["kind"] for one in waiting["blockers"]] == ["worker_avoided"]
    expected = "Run again: attempt 2 of at most 4, because the object store did not answer. it failed"
    failed = waiting["failed_attempt"]
    assert (failed["number"], failed["worker"], failed["message"]) == (1, "bad", expected)
    assert (await good.assigned())["document"]["number"] == 2
    (record,) = await requeues(scheduler, execution)
    assert record == {
        "before": "started",
        "reason": "store_unreachable",
        "message": expected,
        "attempt_id": attempt,
    }


async def test_an_attempt_that_was_never_taken_is_recorded_when_it_goes_elsewhere(start) -> None:
    async with start(**QUICK) as scheduler:
        environment = await scheduler.environment()
        silent = await scheduler.machine(environment, name="silent")
        execution = await scheduler.create(environment)
        await silent.assigned()
        other = await scheduler.machine(environment, name="other")
        async with asyncio.timeout(6):
            while not (await other.sync(wait=0.2))["assignments"]:
                pass
        (record,) = await requeues(scheduler, execution)
        assert (record["before"], record["reason"]) == ("queued", "worker_lost")
        assert record["message"].startswith("Run again: attempt 2 of at most 4, because the worker was not heard of")


@pytest.mark.parametrize("settings", [{}, {"on_lost": "requeue"}])
async def test_restarts_after_the_users_code_are_three_at_most(scheduler, settings: dict[str, str]) -> None:
    environment = await scheduler.environment(settings=settings)
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment, autorestart=not settings)
    for number in range(1, 5):
        _, attempt = await machine.start()
        await machine.finish(attempt, machine.exited(attempt, 130, "preempted", outputs=number))
        status = "queued" if number < 4 else "crashed"
        assert (await scheduler.read(execution))["status"] == status
    row = await scheduler.read(execution)
    assert (row["end_reason"], row["attempt_count"]) == ("preempted", 4)
    messages = [one["message"].split(",")[0] for one in await requeues(scheduler, execution)]
    assert messages == [f"Run again: attempt {number} of at most 7" for number in (2, 3, 4)]


@pytest.mark.parametrize("reason", ["user_code", "container_oom", "input_failed", "image_missing"])
async def test_a_users_error_is_never_run_again(scheduler, reason: str) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment, autorestart=True)
    _, attempt = await machine.start(user_code=reason in {"user_code", "container_oom"})
    await machine.finish(attempt, machine.failed(attempt, reason, retryable=True))
    row = await scheduler.read(execution)
    assert (row["status"], row["end_reason"], row["attempt_count"]) == ("error", reason, 1)


async def test_a_worker_that_vanishes_after_its_notice_was_preempted(start) -> None:
    async with start(**QUICK) as scheduler:
        environment = await scheduler.environment()
        machine = await scheduler.machine(environment)
        execution = await scheduler.create(environment, autorestart=True)
        await machine.start()
        await machine.sync(refusal="preempted", refusal_message="EC2 takes it.")
        await scheduler.until(execution, "queued")
        (record,) = await requeues(scheduler, execution)
        assert record["reason"] == "preempted"


async def test_a_worker_that_refuses_gets_nothing_and_is_named(scheduler) -> None:
    environment = await scheduler.environment("spot")
    machine = await scheduler.machine(environment, name="w7")
    await machine.sync(refusal="disk", refusal_message="1 GiB is free.")
    execution = await scheduler.create(environment)
    answer = await machine.sync(refusal="disk", refusal_message="1 GiB is free.", wait=0.3)
    assert answer["assignments"] == []
    kinds = {one["kind"]: one["message"] for one in (await scheduler.waiting(execution))["blockers"]}
    assert kinds["workers_refuse"] == "Connected, but taking nothing new: w7 (1 GiB is free)."
    assert (await machine.assigned())["document"]["execution_id"] == str(execution)


async def test_an_estimate_comes_from_history(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment, slots=1)
    await scheduler.create(environment)
    _, attempt = await machine.start()
    waiting = await scheduler.create(environment)
    assert (await scheduler.waiting(waiting))["estimate"] is None
    async with scheduler.db.transaction() as session:
        await session.execute(
            text("UPDATE executions SET started_at = now() - interval '12 minutes' WHERE status = 'started'")
        )
    await machine.finish(attempt, machine.exited(attempt))
    await machine.start()
    queued = await scheduler.create(environment)
    estimate = (await scheduler.waiting(queued))["estimate"]
    assert estimate["message"] == "It will start in about 12 minutes, going by the last run of this environment."


async def test_what_no_worker_can_hold_is_refused_at_creation(scheduler) -> None:
    environment = await scheduler.environment("small")
    demand = {"memory_bytes": 32 * 1024**3}
    unknown = await scheduler.create(environment, resources=demand)
    blocker = (await scheduler.waiting(unknown))["blockers"][0]
    assert "never had one, so it is not known whether the step fits" in blocker["message"]
    machine = await scheduler.machine(environment)
    await machine.sync()
    draft = scheduler.draft(environment, resources=demand)
    answer = await scheduler.internal.post("/internal/v1/executions", json=draft)
    assert answer.status_code == 400
    problem = answer.json()["fields"]["resources"][0]
    assert problem["code"] == "unsatisfiable"
    assert problem["message"].startswith(
        "The step needs 32 GiB of memory but the largest worker has 8 GiB in environment small."
    )
    await scheduler.create(environment, resources={"memory_bytes": 8 * 1024**3})
    large = await scheduler.environment("large", settings={"worker_size": {"cpus": 64, "memory_bytes": 256 * 1024**3}})
    await scheduler.create(large, resources=demand)
    refused = scheduler.draft(large, resources={"gpus": 1})
    assert (await scheduler.internal.post("/internal/v1/executions", json=refused)).status_code == 400
