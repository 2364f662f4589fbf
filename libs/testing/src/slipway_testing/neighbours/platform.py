"""All neighbours of a worker on one origin, and the documents of attempts to give it."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slipway_kit.auth import AttemptSigner, AttemptVerifier
from slipway_kit.ids import new_id
from slipway_schemas.attempts import AttemptDocument, CodeArchive, Materials, ResolvedInput, SecretValue
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.executions import CodeRef, EnvironmentVariable, ExecutionSpec, InputSpec
from slipway_storage.local.app import local_store_app
from slipway_testing.neighbours.gateway import GatewayNeighbour
from slipway_testing.neighbours.relay import RelayNeighbour
from slipway_testing.neighbours.scheduler import SchedulerNeighbour
from slipway_testing.neighbours.serving import ServedApp


@dataclass(frozen=True)
class PlatformNeighbours:
    """The platform as a worker sees it. `api` and `store` can be stopped and started."""

    scheduler: SchedulerNeighbour
    gateway: GatewayNeighbour
    relay: RelayNeighbour
    api: ServedApp
    store: ServedApp

    async def assign(
        self,
        command: str,
        *,
        files: Mapping[str, bytes] | None = None,
        inputs: Sequence[ResolvedInput] = (),
        secrets: Mapping[str, str] | None = None,
        environment: EnvironmentSettings | None = None,
        **spec: Any,
    ) -> UUID:
        """Give the worker an attempt that runs `command` in a tree of these files."""
        archive = make_archive(files or {"README.md": b"test\n"})
        digest = hashlib.sha256(archive).hexdigest()
        key = f"code/{digest}"
        await self.gateway.store.put(key, archive)
        document = make_document(command, environment_id=self.scheduler.environment_id, environment=environment, **spec)
        self.gateway.materials[document.attempt_id] = Materials(
            code=CodeArchive(url=await self.gateway.url_of(key), sha256=digest, size=len(archive), format="tar.zst"),
            inputs=tuple(inputs),
            secrets=tuple(SecretValue(name=name, value=value) for name, value in (secrets or {}).items()),
        )
        return self.scheduler.assign(document)


@asynccontextmanager
async def platform_neighbours(directory: Path) -> AsyncIterator[PlatformNeighbours]:
    """Serve scheduler, gateway and log service on one port, and the gateway's store on another."""
    key = Ed25519PrivateKey.generate()
    verifier = AttemptVerifier(key.public_key())
    scheduler = SchedulerNeighbour(AttemptSigner(key))
    relay = RelayNeighbour(verifier)
    stores: dict[str, Any] = {}
    async with ServedApp(local_store_app(stores)) as store:
        gateway = GatewayNeighbour(verifier, directory / "store", store.url)
        stores["local"] = gateway.store

        async def logs(request: Request) -> Response:
            return await relay.handle(request)

        async def usage(request: Request) -> Response:
            return await relay.handle_usage(request)

        attempt = "/workers/v1/attempts/{attempt}"
        routes = [
            Route("/workers/v1/register", scheduler.register, methods=["POST"]),
            Route("/workers/v1/sync", scheduler.sync, methods=["POST"]),
            Route("/workers/v1/logs", logs, methods=["POST"]),
            Route("/workers/v1/usage", usage, methods=["POST"]),
            Route(f"{attempt}/materials", gateway.handle_materials, methods=["POST"]),
            Route(f"{attempt}/uploads", gateway.handle_upload, methods=["POST"]),
            Route(attempt + "/uploads/{datum}/parts", gateway.handle_parts, methods=["POST"]),
            Route(f"{attempt}/outputs", gateway.handle_outputs, methods=["POST"]),
        ]
        async with ServedApp(Starlette(routes=routes)) as api:
            yield PlatformNeighbours(scheduler, gateway, relay, api, store)
        await gateway.store.close()


def make_document(
    command: str,
    *,
    environment_id: UUID | None = None,
    environment: EnvironmentSettings | None = None,
    variables: Mapping[str, str] | None = None,
    declared: Sequence[str] = (),
    **spec: Any,
) -> AttemptDocument:
    """An attempt's document with sensible values for everything that a test does not care about."""
    return AttemptDocument(
        attempt_id=new_id(),
        number=1,
        execution_id=new_id(),
        counter=1,
        created_at=datetime.now(UTC),
        project_id=new_id(),
        project_name="owner/project",
        creator_id=1,
        creator_name="owner",
        environment_id=environment_id or new_id(),
        environment_name="Test",
        environment_slug="test",
        environment=environment or EnvironmentSettings(),
        spec=ExecutionSpec(
            code=CodeRef(identifier="0" * 40, archive_key="code/x"),
            step="step",
            image=spec.pop("image", "python:3.11"),
            command=(command,),
            interpolated_command=command,
            inputs=tuple(InputSpec(name=name) for name in declared),
            environment_variables={name: EnvironmentVariable(value=value) for name, value in (variables or {}).items()},
            **spec,
        ),
    )


def make_archive(files: Mapping[str, bytes]) -> bytes:
    """A `tar.zst` of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return zstandard.ZstdCompressor().compress(buffer.getvalue())
