"""What a worker calls at the gateway: materials, uploads, outputs, and the container's own token."""

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from slipway_gateway.data.consumers import abort_uploads_of_ended
from slipway_gateway.data.loops import AbortUploads
from slipway_schemas.events import EventEnvelope, ExecutionStateChanged

CONTENT = b"weights"
HASHES = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha1", "sha256")}


async def test_materials_and_the_containers_token(lab, machine, anonymous, people) -> None:
    url = f"/api/v0/projects/{lab.project['id']}/environment_variable/"
    await lab.me.post(url, json={"name": "TOKEN", "value": "hush", "secret": True})
    datum = await lab.upload("dir/a.csv", CONTENT)
    made = await lab.created(
        inputs={"data": [f"datum://{datum['id']}", "http://example.org/b.csv"], "lazy": [f"datum://{datum['id']}"]}
    )
    attempt = await machine.start()
    answer = await attempt.post("materials", {})
    assert answer.status_code == 200, answer.text
    materials = answer.json()
    assert materials["code"]["size"] == 7
    assert materials["secrets"] == [{"name": "TOKEN", "value": "hush"}]
    data, lazy = materials["inputs"]
    assert [file["name"] for file in data["files"]] == ["a.csv", "b.csv"]
    assert data["files"][0]["sha256"] == HASHES["sha256"]
    assert [file["public"] for file in data["files"]] == [False, True]
    assert (await anonymous.get(data["files"][0]["url"])).content == CONTENT
    say = materials["api"]["set_status_detail"]
    for headers, status in (({}, 401), ({"Authorization": "Execution-Token x"}, 401), (say["headers"], 200)):
        said = await anonymous.post(say["url"], headers=headers, json={"status_detail": "half way"})
        assert said.status_code == status, said.text
    assert (await lab.me.get(made["url"])).json()["status_detail"] == "half way"
    ask = materials["api"]["input_request"]
    [group] = (await anonymous.post(f"{ask['url']}&inputs={lazy['input_id']}", headers=ask["headers"])).json()
    assert (group["name"], group["files"][0]["filename"]) == ("lazy", "a.csv")
    assert group["files"][0]["input_id"] == lazy["input_id"]


async def test_outputs_are_uploaded_and_registered_once(lab, machine, anonymous) -> None:
    made = await lab.created()
    attempt = await machine.start()
    ticket = (await attempt.post("uploads", {"name": "m/model.bin", "size": len(CONTENT)})).json()
    again = (await attempt.post("uploads", {"name": "m/model.bin", "size": len(CONTENT)})).json()
    assert again["datum_id"] == ticket["datum_id"]
    file = {"datum_id": ticket["datum_id"], "name": "m/model.bin", "size": len(CONTENT), **HASHES}
    file["properties"] = {
        "k": 1,
        "valohai.tags": ["good"],
        "valohai.alias": "best",
        "valohai.model-versions": ["model://m"],
    }
    early = await attempt.post("outputs", {"files": [file]})
    assert (early.status_code, early.json()["code"]) == (409, "upload_incomplete")
    put = await anonymous.put(ticket["url"], content=CONTENT, headers=ticket["headers"])
    assert put.status_code < 300, put.text
    for _ in range(2):
        answer = await attempt.post("outputs", {"files": [file]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["registered"] == 1
    late = await attempt.post("outputs", {"files": [], "properties": {"m/model.bin": {"late": True}, "none": {}}})
    assert "none" in late.json()["warnings"][0]
    [listed] = (await lab.me.get(f"/api/v0/data/?output_execution={made['id']}&limit=5000")).json()["results"]
    assert (listed["name"], listed["tags"], listed["aliases"]) == ("m/model.bin", ["good"], ["best"])
    assert listed["output_execution"] == {"id": made["id"], "counter": 1}
    properties = (await lab.me.get(f"/api/v0/data/{listed['id']}/metadata/")).json()
    assert (properties["k"], properties["late"]) == (1, True)
    [output] = (await lab.me.get(f"{made['url']}outputs/?include=download_url")).json()
    assert (await anonymous.get(output["download_url"])).content == CONTENT


async def test_large_outputs_go_up_in_parts(lab, machine) -> None:
    await lab.created()
    attempt = await machine.start()
    ticket = (await attempt.post("uploads", {"name": "big", "size": 64 * 1024**2})).json()
    assert ticket["multipart"]
    assert sorted(ticket["part_urls"]) == ["1", "2", "3", "4"]
    parts = await attempt.post(f"uploads/{ticket['datum_id']}/parts", {"numbers": [2]})
    assert list(parts.json()["part_urls"]) == ["2"]
    assert (await attempt.post(f"uploads/{ticket['datum_id']}/parts", {"numbers": [5]})).status_code == 400


async def test_only_the_current_attempt_is_served(lab, machine, execute) -> None:
    await lab.created()
    attempt = await machine.start()
    assert (await attempt.post("materials", {}, token="x")).status_code == 401
    real, attempt.id = attempt.id, uuid4()
    assert (await attempt.post("materials", {})).status_code == 403
    attempt.id = real
    await execute("UPDATE scheduler.attempts SET superseded = true WHERE id = $1", attempt.id)
    for path, body in (("materials", {}), ("uploads", {"name": "a", "size": 1}), ("outputs", {"files": []})):
        answer = await attempt.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "superseded")


async def test_uploads_of_ended_executions_are_aborted_after_the_grace(lab, machine, context, execute) -> None:
    made = await lab.created()
    attempt = await machine.start()
    ticket = (await attempt.post("uploads", {"name": "a", "size": 1})).json()
    event = ExecutionStateChanged(
        execution_id=UUID(made["id"]), project_id=UUID(lab.project["id"]), before="started", after="complete"
    )
    envelope = EventEnvelope(
        id=uuid4(),
        name=event.name,
        publisher="scheduler",
        position=1,
        key=event.key(),
        occurred_at=datetime(2020, 1, 1, tzinfo=UTC),
        payload=event.model_dump(mode="json"),
    )
    async with context.db.transaction() as session:
        await abort_uploads_of_ended(session, envelope)
    loop = AbortUploads(context.db, context.data.stores, context.clock, timedelta(days=1))
    assert await loop.run() == 1
    assert await loop.run() == 0
    assert (await attempt.post("uploads", {"name": "a", "size": 1})).json()["datum_id"] != ticket["datum_id"]
