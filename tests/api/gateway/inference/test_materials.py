"""What the builder gets from the gateway's internal app."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from slipway_gateway.app import internal_app
from slipway_kit.auth import ServiceSigner
from slipway_kit.keys import generate_keypair, load_private
from tests.api.gateway.inference.conftest import CONFIG, SHA, add_commit

PATH = "/internal/v1/inference/materials"


@pytest.fixture
async def internal(context, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    signer = ServiceSigner("builder", load_private(tmp_path / "builder.pem"))
    headers = {"Authorization": f"Bearer {signer.token('gateway')}"}
    transport = httpx.ASGITransport(app=internal_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://internal.test", headers=headers) as client:
        yield client


async def test_code_files_and_values_of_a_draft(lab, internal, context):
    url = f"/api/v0/projects/{lab.project['id']}/environment_variable/"
    await lab.me.post(url, json={"name": "TOKEN", "value": "hunter22", "secret": True})
    await lab.version(inherit_environment_variables=True, environment_variables={"A": "b"})
    draft = lab.builder.drafts[-1]
    body = {
        "project_id": lab.project["id"],
        "code": draft.code.model_dump(mode="json"),
        "datum_ids": [lab.model["id"]],
        "environment_variables": {
            name: one.model_dump(mode="json") for name, one in draft.environment_variables.items()
        },
    }
    found = (await internal.post(PATH, json=body)).json()
    assert found["environment"] == {"A": "b", "TOKEN": "hunter22"}
    assert (found["code_format"], found["code_sha256"]) == ("tar.zst", hashlib.sha256(b"zst").hexdigest())
    assert "/code/" in found["code_url"]
    [file] = found["files"]
    assert (file["datum_id"], file["size"], file["sha256"]) == (lab.model["id"], 7, lab.model["sha256"])
    assert "signature" in file["url"] or "sig" in file["url"]


async def test_a_missing_archive_is_made_at_first_use(lab, internal, context, execute):
    await add_commit(execute, lab.project["id"], "f" * 40, CONFIG, archived=False, ref="new")
    body = {"project_id": lab.project["id"], "code": {"identifier": "f" * 40}}
    answer = await internal.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "code_unavailable")
    async with context.db.read() as session:
        wanted = await session.scalar(
            text("SELECT archive_wanted_at FROM commits WHERE identifier = :i"), {"i": "f" * 40}
        )
    assert wanted is not None
    await execute("UPDATE gateway.commits SET archive_error = 'the remote is gone' WHERE identifier = $1", "f" * 40)
    refused = await internal.post(PATH, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "code_refused")
    assert "the remote is gone" in refused.json()["detail"]
    unknown = await internal.post(PATH, json={**body, "code": {"identifier": "0" * 40}})
    assert (unknown.status_code, unknown.json()["code"]) == (409, "code_unavailable")


async def test_files_of_others_and_purged_ones_are_not_given(lab, internal, other):
    foreign = (await other.post("/api/v0/projects/", data={"name": "theirs"})).json()
    for project in (foreign["id"], lab.project["id"]):
        if project == lab.project["id"]:
            await lab.me.post(f"/api/v0/data/{lab.model['id']}/purge/")
        answer = await internal.post(PATH, json={"project_id": project, "datum_ids": [lab.model["id"]]})
        assert (answer.status_code, answer.json()["code"]) == (409, "file_unavailable")


async def test_the_internal_app_opens_to_the_builder_alone(lab, internal, context, tmp_path):
    generate_keypair(tmp_path / "stranger.pem", tmp_path / "stranger.pub.pem")
    tokens = {
        "nobody": None,
        "stranger": ServiceSigner("builder", load_private(tmp_path / "stranger.pem")).token("gateway"),
        "another service": ServiceSigner("scheduler", load_private(tmp_path / "scheduler.pem")).token("gateway"),
        "for another": ServiceSigner("builder", load_private(tmp_path / "builder.pem")).token("scheduler"),
    }
    body = {"project_id": lab.project["id"], "code": {"identifier": SHA}}
    for who, token in tokens.items():
        headers = {"Authorization": f"Bearer {token}" if token else ""}
        answer = await internal.post(PATH, json=body, headers=headers)
        assert answer.status_code in (401, 403), who
