"""The unmodified `vh deployment create-version` (contract row 53, and 4.3)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from slipway_gateway.app import public_app
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.vh import VhRunner

pytestmark = pytest.mark.vh


@pytest.fixture
async def origin(context) -> AsyncIterator[str]:
    async with ServedApp(public_app(context)) as served:
        yield served.url


@pytest.fixture
async def run(lab, origin, vh: VhRunner, tmp_path: Path):
    """`vh` in a folder that is linked to the project."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    token = lab.me.headers["Authorization"].removeprefix("Token ")

    async def call(*args: str, code: int = 0) -> str:
        done = await asyncio.to_thread(vh.run, *args, cwd=folder)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    await call("login", "--host", origin, "--token", token, "--no-verify-ssl")
    await call("project", "link", "lab", "--yes")
    return call


async def test_vh_makes_a_version(lab, run):
    common = ("deployment", "create-version", "-d", "main", "--commit", "d" * 40, "-e", "greet")
    said = await run(*common, "--greet-model", f"datum://{lab.model['id']}")
    assert "Using automatically generated name" in said
    draft = lab.builder.drafts[-1]
    assert (draft.name or "").endswith(".0")
    assert [one.spec.name for one in draft.endpoints] == ["greet"]
    assert draft.endpoints[0].spec.files[0].datum_id == UUID(lab.model["id"])
    assert draft.endpoints[0].scale.replicas == 1
    [version] = (await lab.me.get("/api/v0/deployment-versions/")).json()["results"]
    assert version["urls"]["display"] in said
    await lab.builder.available(UUID(version["id"]))
    assert (await lab.me.get(version["url"])).json()["endpoints"][0]["status"] == "AVAILABLE"

    named = await run(*common, "--greet-model", f"datum://{lab.model['id']}", "-n", "v1", "--var", "A=b")
    assert "v1" in named
    assert lab.builder.drafts[-1].name == "v1"
    # The client itself loses the value (contract 1.3).
    assert lab.builder.drafts[-1].environment_variables["A"].value == ""

    taken = await run(*common, "--greet-model", f"datum://{lab.model['id']}", "-n", "v1", code=1)
    assert "named v1" in taken
    assert "unique" in taken
    unknown = "00000000-0000-7000-8000-00000000dead"
    missing = await run(*common, "--greet-model", f"datum://{unknown}", code=1)
    assert "does not exist in this project, or was purged" in " ".join(missing.split())
