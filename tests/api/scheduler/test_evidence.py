"""Each attempt keeps its own evidence; a worker whose disk is full gets nothing and is named as the reason."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

GIB = 1024**3


async def attempts(scheduler: Any, execution: UUID) -> list[dict[str, Any]]:
    async with scheduler.db.read() as session:
        statement = text("SELECT * FROM scheduler_pub.attempt_v1 WHERE execution_id = :id ORDER BY number")
        return [dict(row) for row in (await session.execute(statement, {"id": execution})).mappings()]


async def test_every_attempt_keeps_its_own_reason_evidence_and_fingerprint(scheduler) -> None:
    environment = await scheduler.environment()
    machine = await scheduler.machine(environment)
    execution = await scheduler.create(environment)
    _, first = await machine.start(user_code=False)
    pulling = {"failed_in": "pulling", "error": "RegistryUnreachable: no route to host"}
    await machine.finish(first, machine.failed(first, "registry_unreachable", retryable=True, evidence=pulling))
    _, second = await machine.start()
    lines = [{"stream": "stderr", "text": "KeyError: 17"}, {"stream": "stdout", "text": "bye"}]
    evidence = {"exit_code": 1, "last_lines": lines}
    await machine.finish(second, machine.exited(second, 1, "user_code", message="It failed.", evidence=evidence))
    row = await scheduler.until(execution, "error")
    assert row["end_evidence"] == evidence
    before, after = await attempts(scheduler, execution)
    assert (before["end_reason"], before["end_message"], before["end_evidence"]) == (
        "registry_unreachable",
        "it failed",
        pulling,
    )
    assert (after["end_reason"], after["end_message"], after["end_evidence"]) == ("user_code", "It failed.", evidence)
    assert (before["failure_line"], after["failure_line"]) == ("it failed", "KeyError: 17")
    assert len({before["fingerprint"], after["fingerprint"], None}) == 3

    again = await scheduler.create(environment)
    _, third = await machine.start()
    lines = [{"stream": "stderr", "text": "KeyError: 18"}]
    await machine.finish(third, machine.exited(third, 1, "user_code", evidence={"last_lines": lines}))
    assert [one["fingerprint"] for one in await attempts(scheduler, again)] == [after["fingerprint"]]

    done = await scheduler.create(environment)
    _, fourth = await machine.start()
    await machine.finish(fourth, machine.exited(fourth, evidence={"exit_code": 0}))
    assert [(one["fingerprint"], one["failure_line"]) for one in await attempts(scheduler, done)] == [(None, None)]


async def test_a_full_disk_takes_no_work_and_is_named(scheduler) -> None:
    environment = await scheduler.environment()
    full = await scheduler.machine(environment, name="small")
    full.condition = _full(GIB // 2)
    await full.sync()
    execution = await scheduler.create(environment)
    assert (await full.sync(wait=0.5))["assignments"] == []
    nobody, blocker = (await scheduler.waiting(execution))["blockers"]
    assert (nobody["kind"], blocker["kind"]) == ("no_worker", "workers_refuse")
    assert blocker["message"] == "Connected, but taking nothing new: small (Its disk is full)."
    async with scheduler.db.read() as session:
        state = await session.scalar(text("SELECT state FROM scheduler_pub.worker_v1"))
    assert state == "disk full"

    full.condition = {"disk": {"free_bytes": 30 * GIB, "total_bytes": 40 * GIB, "full": False}}
    assert (await full.assigned())["document"]["execution_id"] == str(execution)


async def test_a_worker_with_room_is_taken_instead(scheduler) -> None:
    environment = await scheduler.environment()
    full = await scheduler.machine(environment, name="small", slots=8)
    full.condition = _full(0)
    roomy = await scheduler.machine(environment, name="large", slots=1)
    await full.sync()
    await roomy.sync()
    execution = await scheduler.create(environment)
    assert (await roomy.assigned())["document"]["execution_id"] == str(execution)


def _full(free: int) -> dict[str, Any]:
    disk = {"free_bytes": free, "total_bytes": 40 * GIB, "full": True}
    return {"disk": disk, "refusal": "disk", "refusal_message": "Its disk is full"}
