"""Create, dispatch, sync, facts, final status."""

import asyncio
import time
from uuid import UUID

import pytest
from sqlalchemy import text

from slipway_db import Database, check_models
from slipway_scheduler.database import MIGRATIONS


async def test_migrations_build_the_models(scheduler_url: str) -> None:
    await check_models(scheduler_url, MIGRATIONS)


async def test_an_execution_runs_to_its_end(scheduler) -> None:
    environment = await scheduler.environment(settings={"default_time_limit_seconds": 77})
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    assignment = await machine.assigned()
    assert assignment["document"]["execution_id"] == str(execution)
    assert assignment["document"]["spec"]["time_limit_seconds"] == 77
    assert assignment["token"].count(".") == 2
    assert (await scheduler.read(execution))["status"] == "queued"
    attempt = UUID(assignment["attempt_id"])
    machine.attempts[attempt] = "running"
    facts = [machine.fact(attempt, "accepted"), machine.fact(attempt, "user_code_started")]
    answer = await machine.sync(*facts)
    assert answer["facts_done"] == [[str(attempt), 1], [str(attempt), 2]]
    assert answer["assignments"] == []
    row = await scheduler.read(execution)
    assert (row["status"], row["phase"]) == ("started", "running")
    assert row["duration_seconds"] >= 0
    last = machine.exited(attempt, last_line=12, outputs=3, metadata_lines=4)
    await machine.finish(attempt, last)
    await machine.sync(last)  # said again: stored once
    row = await scheduler.read(execution)
    assert (row["status"], row["end_reason"], row["exit_code"]) == ("complete", "success", 0)
    assert await scheduler.steps(execution) == ["created", "queued", "started", "complete"]
    async with scheduler.db.read() as session:
        totals = await session.execute(
            text("SELECT total_lines, total_outputs, total_metadata FROM scheduler_pub.attempt_v1")
        )
        assert totals.one() == (12, 3, 4)
        events = await session.scalars(text("SELECT payload->>'after' FROM outbox ORDER BY seq"))
        assert events.all() == ["created", "queued", "started", "complete"]


async def test_create_again_is_the_same_execution(scheduler) -> None:
    environment = await scheduler.environment()
    draft = scheduler.draft(environment)
    answers = await asyncio.gather(*(scheduler.internal.post("/internal/v1/executions", json=draft) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["counter"] == 1
    other = await scheduler.internal.post(
        "/internal/v1/executions", json=scheduler.draft(environment, project_id=draft["project_id"])
    )
    assert other.json()["counter"] == 2
    stolen = await scheduler.internal.post("/internal/v1/executions", json=scheduler.draft(environment, id=draft["id"]))
    assert stolen.status_code == 409


async def test_a_held_sync_is_woken_at_once(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    await machine.sync()
    delays = []
    for _ in range(5):
        held = asyncio.create_task(machine.assigned(wait=10))
        await asyncio.sleep(0.15)
        await scheduler.create(environment)
        began = time.perf_counter()
        attempt = UUID((await held)["attempt_id"])
        delays.append(time.perf_counter() - began)
        machine.attempts[attempt] = "running"
        await machine.finish(attempt, machine.exited(attempt))
    assert min(delays) < 0.4  # far below the second of the poll; the others may have waited for a busy machine


@pytest.mark.parametrize(
    ("kind", "values", "status", "reason"),
    [
        ("exited", {"code": 0, "reason": "success"}, "complete", "success"),
        ("exited", {"code": 3, "reason": "user_code"}, "error", "user_code"),
        ("exited", {"code": 137, "reason": "container_oom"}, "error", "container_oom"),
        ("exited", {"code": 130, "reason": "time_limit"}, "stopped", "time_limit"),
        ("exited", {"code": 130, "reason": "no_output"}, "stopped", "no_output"),
        ("exited", {"code": 130, "reason": "stop_condition"}, "stopped", "stop_condition"),
        (
            "failed",
            {"message": "no such image", "reason": "image_missing", "retryable": False},
            "error",
            "image_missing",
        ),
        ("failed", {"message": "disk is full", "reason": "disk_full", "retryable": False}, "crashed", "disk_full"),
    ],
)
async def test_facts_lead_to_every_final_status(scheduler, kind, values, status, reason) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    _, attempt = await machine.start()
    await machine.finish(attempt, machine.fact(attempt, kind, **values))
    row = await scheduler.read(execution)
    assert (row["status"], row["end_reason"]) == (status, reason)
    assert row["finished_at"] >= row["started_at"]


async def test_strangers_are_refused(scheduler, db: Database) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    machine.token = "wrong"
    answer = await scheduler.workers.post(
        "/workers/v1/sync",
        json={"free": machine.capacity.model_dump()},
        headers={"Authorization": "Bearer wrong"},
    )
    assert answer.status_code == 401
    assert "Register again" in answer.json()["detail"]
    bare = await scheduler.internal.post("/internal/v1/environments", json={}, headers={"Authorization": ""})
    assert bare.status_code == 401
