"""What operators see: all of the platform, a neighbour that is dead as a line, and nobody else sees it."""

from typing import Any

import httpx

URL = "/api/v1/admin/health/"


async def admin(people, execute) -> httpx.AsyncClient:
    client = await people.client("root")
    await execute(
        "UPDATE gateway.users SET is_admin = true WHERE account_id = (SELECT id FROM gateway.accounts"
        " WHERE slug = 'root')"
    )
    return client


async def looked_at(people, execute) -> dict[str, Any]:
    client = await admin(people, execute)
    answer = await client.get(URL)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_only_administrators_learn_that_it_exists(me, anonymous) -> None:
    assert (await me.get(URL)).status_code == 404
    assert (await anonymous.get(URL)).status_code == 401


async def test_services_queues_workers_and_loops_are_told(people, execute, lab, machine) -> None:
    await lab.created()
    await machine.start()
    health = await looked_at(people, execute)
    states = {one["name"]: one for one in health["services"]}
    assert states["gateway"]["ready"]
    scheduler = states["scheduler"]
    assert scheduler["ready"], scheduler["reason"]
    assert abs(scheduler["health"]["database_skew_seconds"]) < 1
    dispatch = {loop["name"]: loop for loop in scheduler["health"]["loops"]}["dispatch"]
    assert dispatch["rows"] >= 1
    assert dispatch["ran_at"] is not None
    [environment] = health["environments"]
    assert (environment["queued"], environment["running"], environment["workers"]) == (0, 1, 1)
    [worker] = health["workers"]
    assert (worker["hostname"], worker["attempts"], worker["state"]) == ("m1", 1, "connected")


async def test_a_dead_neighbour_is_a_line_and_comes_first(people, execute, lab, relay) -> None:
    relay.body = b"nonsense"
    health = await looked_at(people, execute)
    states = {one["name"]: one["ready"] for one in health["services"]}
    assert states == {"gateway": True, "scheduler": True, "logs": False}
    assert health["problems"][0]["level"] == "bad"
    assert health["problems"][0]["what"] == "Service logs is not ready."
