"""inference-builder is killed at every step of build and rollout, and carries on as if it had not been.

`SLIPWAY_CHAOS=full` kills 50 times, `ci` 20 times, `make test` 8 times; the real cluster has kills of its own in
`tests/cluster`. `SLIPWAY_CHAOS_SEED` repeats a run.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from slipway_builder.images.protocol import RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetDraft
from slipway_testing.image_requests import push_image
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.ports import unused_port
from slipway_testing.registries import Registry
from tests.chaos.inference.checks import (
    check_containers,
    check_folders,
    check_processes,
    check_registry,
    remove_images,
)
from tests.chaos.inference.points import ENGINE, GATEWAY, REGISTRY, ROWS, chosen
from tests.chaos.inference.rounds import Rounds
from tests.chaos.inference.site import running_site
from tests.chaos.inference.tripwire import Proxy, Tripwire


async def test_on_the_process_target(database_url: str, valkey_url: str, tmp_path: Path) -> None:
    points, chance = chosen((*GATEWAY, *ROWS), few=4, ci=8, full=20)
    async with running_site(database_url, valkey_url, tmp_path, TargetKind.PROCESS) as site:
        await site.deploy()
        await site.until_aliased(await site.version(b"first"))
        rounds = Rounds(site, chance, partial(check_processes, site))
        for point in points:
            await rounds.play(point)


@pytest.mark.docker
async def test_on_the_docker_target(database_url: str, valkey_url: str, tmp_path: Path) -> None:
    points, chance = chosen(ENGINE, few=2, ci=7, full=17)
    async with running_site(database_url, valkey_url, tmp_path, TargetKind.DOCKER) as site:
        try:
            await site.deploy()
            await site.until_aliased(await site.version(b"first"))
            rounds = Rounds(site, chance, partial(check_containers, site))
            for point in points:
                await rounds.play(point)
        finally:
            remove_images(site)


@pytest.mark.registry
async def test_at_the_registry(database_url: str, valkey_url: str, tmp_path: Path, registry: Registry) -> None:
    """Builds for a cluster that is not there: only what is pushed is looked at."""
    points, _ = chosen(REGISTRY, few=2, ci=5, full=13)
    wire, mark = Tripwire(), tmp_path.name
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{registry.host}", timeout=30))
        proxy = await stack.enter_async_context(ServedApp(Proxy("registry", upstream, wire)))
        host = proxy.url.removeprefix("http://")
        client = RegistryClient(RegistryAccess(registry.host, plain_http=True))
        stack.push_async_callback(client.aclose)
        await push_image(client, f"bases-{mark}/base", "1", [os.urandom(30_000), os.urandom(30_000)])
        settings = {
            "cluster": {"namespace": "nowhere", "kubeconfig": _nobody()},
            "images": {
                "registry": {"host": host, "prefix": f"inference-{mark}", "plain_http": True},
                "builders": ["append"],
            },
        }
        draft = TargetDraft(
            name="away", kind=TargetKind.KUBERNETES, public_url="http://a.test", is_default=True, settings=settings
        )
        site = await stack.enter_async_context(
            running_site(database_url, valkey_url, tmp_path / "site", TargetKind.KUBERNETES, target=draft, wire=wire)
        )
        site.image = f"{host}/bases-{mark}/base:1"
        await site.deploy()
        for number, point in enumerate(points):
            wire.arm(point.moment, *point.words, count=point.count)
            made = await site.version(os.urandom(20_000).hex().encode(), alias=False)
            async with asyncio.timeout(30):
                await wire.fired.wait()
            await site.builders[0].start()
            await site.until_rows(
                "SELECT 1 FROM images WHERE version_id = :id AND status = 'ready'", id=UUID(made["id"])
            )
            await check_registry(site, client, f"inference-{mark}")
            await check_folders(site)
            print(f"{number + 1:3d}. {point.step} ({point.moment})")


def _nobody() -> str:
    """A kubeconfig of a cluster that does not answer."""
    server = f"http://127.0.0.1:{unused_port()}"
    return f"""
apiVersion: v1
kind: Config
clusters: [{{name: a, cluster: {{server: "{server}"}}}}]
users: [{{name: a, user: {{token: none}}}}]
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
current-context: a
"""
