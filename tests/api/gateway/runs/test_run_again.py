"""A run that was interrupted gets the outputs that it had as the input `_restart`."""

import hashlib
from typing import Any
from uuid import UUID

AUTORESTART = {"runtime_config": {"autorestart": True}}


async def register(attempt, anonymous, name: str, content: bytes) -> str:
    """Upload and register one output of an attempt; gives the datum's id."""
    ticket = (await attempt.post("uploads", {"name": name, "size": len(content)})).json()
    put = await anonymous.put(ticket["url"], content=content, headers=ticket["headers"])
    assert put.status_code < 300, put.text
    sums = {kind: hashlib.new(kind, content).hexdigest() for kind in ("md5", "sha1", "sha256")}
    file = {"datum_id": ticket["datum_id"], "name": name, "size": len(content), **sums}
    answer = await attempt.post("outputs", {"files": [file]})
    assert answer.status_code == 200, answer.text
    return ticket["datum_id"]


async def inputs_of(lab, made: dict[str, Any]) -> dict[str, list[str]]:
    shown = (await lab.me.get(made["url"])).json()
    return {one["name"]: one["urls"] for one in shown["inputs"]}


async def materials(attempt) -> dict[str, Any]:
    answer = await attempt.post("materials", {"want": ["inputs"]})
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["inputs"]}


async def test_outputs_of_interrupted_attempts_are_the_next_ones_input(lab, machine, anonymous) -> None:
    made = await lab.created(**AUTORESTART)
    assert made["autorestart"] is True
    first = await machine.start()
    assert "_restart" not in await materials(first)
    old = await register(first, anonymous, "checkpoints/last.pt", b"epoch 1")
    kept = await register(first, anonymous, "notes.txt", b"notes")
    late = await register(first, anonymous, "late.txt", b"not counted")
    await machine.finish(first, code=130, reason="preempted", outputs=2)
    assert await inputs_of(lab, made) == {"data": [], "lazy": [], "_restart": [f"datum://{old}", f"datum://{kept}"]}

    second = await machine.start()
    found = await materials(second)
    assert {file["name"]: file["datum_id"] for file in found["_restart"]["files"]} == {
        "checkpoints/last.pt": old,
        "notes.txt": kept,
    }, f"{late} lies beyond the recorded total"
    assert (await anonymous.get(found["_restart"]["files"][0]["url"])).content == b"epoch 1"
    new = await register(second, anonymous, "checkpoints/last.pt", b"epoch 2")
    await machine.finish(second, code=130, reason="preempted", outputs=1)

    third = await machine.start()
    files = (await materials(third))["_restart"]["files"]
    assert {file["name"]: file["datum_id"] for file in files} == {"checkpoints/last.pt": new, "notes.txt": kept}
    await machine.finish(third)
    shown = (await lab.me.get(made["url"])).json()
    assert (shown["status"], shown["attempt_count"]) == ("complete", 3)
    assert [one["name"] for one in shown["inputs"]] == ["data", "lazy", "_restart"]


async def test_what_a_lost_worker_registered_is_kept_and_purged_files_are_left_out(
    lab, machine, anonymous, execute
) -> None:
    made = await lab.created(**AUTORESTART)
    first = await machine.start()
    kept = await register(first, anonymous, "a.bin", b"a")
    purged = await register(first, anonymous, "b.bin", b"b")
    await execute("UPDATE gateway.datums SET purged_at = now() WHERE id = $1", UUID(purged))
    machine.running.remove(first.id)
    missing = (await machine.sync())["missing"]
    assert missing == [str(first.id)]
    await machine.sync(lost=missing)
    second = await machine.start()
    assert second.id != first.id
    files = (await materials(second))["_restart"]["files"]
    assert [file["datum_id"] for file in files] == [kept]
    assert (await lab.me.get(made["url"])).json()["attempt_count"] == 2


async def test_no_restart_input_when_no_code_had_run(lab, machine) -> None:
    made = await lab.created(**AUTORESTART)
    [assignment] = (await machine.sync(wait=5))["assignments"]
    attempt = UUID(assignment["attempt_id"])
    machine.running.append(attempt)
    await machine.sync(machine.fact(attempt, "accepted"))
    machine.running.remove(attempt)
    failed = {"reason": "store_unreachable", "message": "The store did not answer.", "retryable": True}
    await machine.sync(machine.fact(attempt, "failed", **failed))
    assert "_restart" not in await inputs_of(lab, made)
    second = await machine.start()
    assert "_restart" not in await materials(second)


async def test_a_step_that_no_worker_can_hold_is_refused_with_the_largest_that_exists(lab, machine) -> None:
    await machine.sync()
    asked = {"kubernetes": {"containers": {"workload": {"resources": {"requests": {"memory": 32 * 1024}}}}}}
    answer = await lab.run(runtime_config=asked)
    assert answer.status_code == 400, answer.text
    [problem] = answer.json()["resources"]
    assert problem["code"] == "unsatisfiable"
    assert "needs 32 GiB of memory but the largest worker has 8 GiB in environment Local" in problem["message"]


async def test_waiting_tells_when_it_will_start(lab, machine) -> None:
    made = await lab.created()
    waiting = await lab.me.get(f"/api/v1/executions/{made['id']}/waiting/")
    assert waiting.status_code == 200, waiting.text
    assert {"blockers", "estimate", "failed_attempt", "detail"} <= set(waiting.json())
