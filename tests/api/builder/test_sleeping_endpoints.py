"""Endpoints that scale to zero: only where they can, only when they were ready once, and usable while they sleep."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from slipway_builder.aliases.service import AliasService, Mover
from slipway_builder.deployments.service import DeploymentService
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.endpoints.store import EndpointStore
from slipway_builder.routing.store import RoutingStore
from slipway_builder.targets.protocol import Address, Observation
from slipway_builder.targets.service import TargetService
from slipway_builder.versions.service import VersionService
from slipway_db import Database
from slipway_kit.clock import SystemClock
from slipway_kit.errors import Conflict
from slipway_kit.key_ring import KeyRing
from slipway_kit.vault import Vault
from slipway_schemas.executions import CodeRef
from slipway_schemas.inference.routing import Route
from slipway_schemas.inference.statuses import Problem, TargetKind
from slipway_schemas.inference.versions import (
    AliasMove,
    DeploymentDraft,
    EndpointChange,
    EndpointDraft,
    EndpointSpec,
    Scale,
    TargetDraft,
    VersionDraft,
)
from slipway_testing.roles import service_url
from tests.api.builder.harness import Start

SLEEPS = Scale(replicas=0, replicas_max=3)


@dataclass
class Desk:
    """A version on a target of the kind Kubernetes, of which the test says what is seen."""

    db: Database
    target_id: UUID
    deployment_id: UUID = field(default_factory=uuid4)
    version_id: UUID = field(default_factory=uuid4)
    lease: UUID = field(default_factory=uuid4)

    async def make(self) -> None:
        """The version, as far as its image is there."""
        spec = EndpointSpec(name="greet", image="python", server_command=("serve",))
        async with self.db.transaction() as session:
            await DeploymentService(session).create(
                DeploymentDraft(
                    id=self.deployment_id, project_id=uuid4(), owner_id=1, creator_id=1, name="main", path="/acme/iris"
                )
            )
            await VersionService(session, SystemClock()).create(
                VersionDraft(
                    id=self.version_id,
                    deployment_id=self.deployment_id,
                    project_id=uuid4(),
                    name="v1",
                    creator_id=1,
                    creator_name="ann",
                    code=CodeRef(identifier="c0ffee"),
                    endpoints=(EndpointDraft(spec=spec, scale=SLEEPS),),
                )
            )
            await session.execute(text("UPDATE images SET status = 'ready', reference = 'image', command = '{serve}'"))
            await session.execute(text("UPDATE targets SET lease_token = :lease"), {"lease": self.lease})
            await EndpointService(session).refresh(self.deployment_id)

    async def row(self) -> dict[str, Any]:
        """The endpoint as it is now."""
        async with self.db.read() as session:
            return dict((await session.execute(text("SELECT * FROM endpoints"))).mappings().one())

    async def seen(self, wanted: int, ready: int, problem: Problem | None = None) -> dict[str, Any]:
        """The target has this to say of what is wanted now."""
        row = await self.row()
        one = Observation(row["id"], row["generation"], wanted, ready, Address("10.0.0.1", 8000), problem)
        async with self.db.transaction() as session:
            await EndpointStore(session).applied(self.lease, row["id"], row["generation"])
            await EndpointStore(session).observed(self.lease, [one])
            await EndpointService(session).refresh(self.deployment_id)
        return await self.row()

    async def change(self, **changes: Any) -> dict[str, Any]:
        """Somebody changes the endpoint."""
        endpoint_id = (await self.row())["id"]
        async with self.db.transaction() as session:
            await EndpointService(session).change(endpoint_id, EndpointChange(**changes))
        return await self.row()

    async def move(self) -> None:
        """Point the alias at the version."""
        async with self.db.transaction() as session:
            await AliasService(session).move(
                self.deployment_id, "production", AliasMove(version_id=self.version_id), Mover(7)
            )

    async def wakes(self) -> dict[str, list[UUID | None]]:
        """Whom requests would wake, by the last part but one of the address."""
        async with self.db.read() as session:
            found = (await RoutingStore(session).routes(self.deployment_id)).values()
        routes = [Route.model_validate(one) for one in found]
        return {one.prefix.split("/")[-2]: [backend.wakes for backend in one.backends] for one in routes}


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    (tmp_path / "secret").write_bytes(b"k" * 32)
    db = Database(service_url(database_url, "builder"), schema="builder", pool_size=2)
    draft = TargetDraft(name="north", kind=TargetKind.KUBERNETES, public_url="http://n.test", is_default=True)
    async with db.transaction() as session:
        target = await TargetService(session, Vault(KeyRing(tmp_path / "secret"))).create(draft)
    made = Desk(db, target.id)
    await made.make()
    yield made
    await db.close()


async def test_an_endpoint_sleeps_when_it_was_ready_once(desk: Desk) -> None:
    row = await desk.seen(1, 0)
    assert (row["status"], row["proven_at"]) == ("DEPLOYING", None)
    row = await desk.seen(0, 0)
    assert row["status"] == "UNAVAILABLE", "nobody has proven that it can serve"
    assert await desk.wakes() == {"v1": []}
    with pytest.raises(Conflict, match="not ready"):
        await desk.move()

    before = row["generation"]
    row = await desk.seen(1, 1)
    assert row["proven_at"] is not None
    assert row["generation"] == before + 1, "the target is to hear that it may sleep"
    assert row["status"] == "DEPLOYING", "and it is available when the target has heard it"
    row = await desk.seen(1, 1)
    assert (row["generation"], row["status_detail"]) == (before + 1, "100% - Available")
    assert await desk.wakes() == {"v1": [row["id"]]}

    row = await desk.seen(0, 0)
    assert (row["status"], row["problem"]) == ("AVAILABLE", None)
    assert row["status_detail"] == "100% - Asleep: the next request starts a replica."
    await desk.move()
    assert await desk.wakes() == {"v1": [row["id"]], "production": [row["id"]]}
    row = await desk.seen(1, 0)
    assert (row["status"], row["status_detail"][:16]) == ("AVAILABLE", "100% - Waking up")
    row = await desk.seen(1, 0, Problem.IMAGE_PULL)
    assert (row["status"], row["status_detail"]) == ("UNAVAILABLE", "The image cannot be pulled.")
    assert await desk.wakes() == {"v1": [row["id"]], "production": [row["id"]]}, "requests wait for what may yet come"


async def test_it_has_to_prove_itself_again_after_it_was_disabled(desk: Desk) -> None:
    await desk.seen(1, 1)
    await desk.seen(0, 0)
    row = await desk.change(enabled=False)
    assert (row["status"], row["proven_at"]) == ("DISABLED", None)
    assert await desk.wakes() == {"v1": []}
    row = await desk.change(enabled=True)
    assert row["status"] == "DEPLOYING"
    assert await desk.wakes() == {"v1": []}


async def test_a_fixed_number_ends_sleeping_and_needs_no_new_proof_to_sleep_again(desk: Desk) -> None:
    await desk.seen(1, 1)
    await desk.seen(0, 0)
    row = await desk.change(scale=Scale(replicas=1))
    assert row["status"] == "DEPLOYING"
    assert await desk.wakes() == {"v1": []}
    await desk.seen(1, 1)
    assert await desk.wakes() == {"v1": [None]}
    row = await desk.change(scale=SLEEPS)
    assert await desk.wakes() == {"v1": [row["id"]]}
    assert (await desk.seen(0, 0))["status"] == "AVAILABLE"


async def test_a_target_that_cannot_refuses_at_once(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        with pytest.raises(AssertionError, match="of the kind process, which cannot scale an endpoint to zero"):
            await builder.version(deployment, replicas=0, replicas_max=2)
        version = await builder.version(deployment)
        row = await builder.until(version["id"], "AVAILABLE")
        path = f"endpoints/{row['id']}"
        refused = await builder.call("PATCH", path, EndpointChange(scale=SLEEPS), status=400)
        assert (refused["field"], "Kubernetes with KEDA" in refused["detail"]) == ("replicas", True)
        await builder.call("PATCH", path, EndpointChange(scale=Scale(replicas=0)))
        row = await builder.until(version["id"], "UNAVAILABLE")
        assert row["status_detail"].startswith("No replicas are wanted")
