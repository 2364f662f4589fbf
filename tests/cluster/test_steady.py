"""A builder that is killed, a cluster that is away, and objects that others change."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml

from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.targets.kubernetes.names import object_name
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetDraft
from slipway_testing.image_requests import access_to
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.registries import Registry
from tests.api.builder.harness import plain_logs, template_database
from tests.chaos.inference.checks import calm, check_cluster, check_registry, check_routers, check_rows
from tests.chaos.inference.points import CLUSTER, chosen
from tests.chaos.inference.rounds import Rounds
from tests.chaos.inference.site import ALIAS, Site, running_site
from tests.chaos.inference.tripwire import Proxy, Tripwire
from tests.cluster.test_inference import inference_registry, target_of

__all__ = ["inference_registry", "plain_logs", "template_database"]

pytestmark = [pytest.mark.kubernetes, pytest.mark.registry, pytest.mark.docker]

AWAY_SECONDS = 300.0 if os.environ.get("SLIPWAY_CHAOS") == "full" else 20.0
READY_SECONDS = 90.0
CORRECTED_SECONDS = 6.0
MANAGED = "app.kubernetes.io/managed-by=slipway"


class ClusterSites:
    """Makes sites whose target is the cluster, with a wire on the way to its API."""

    def __init__(
        self, cluster: Kubectl, namespace: str, registry: Registry, database_url: str, valkey_url: str, home: Path
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.registry = registry
        self._urls = (database_url, valkey_url)
        self._home = home

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Site]:
        """One builder and one router."""
        wire = Tripwire()
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]["server"]
        async with AsyncExitStack() as stack:
            # The test's administrator, whose certificate is of no interest here.
            upstream = await stack.enter_async_context(httpx.AsyncClient(base_url=server, verify=False, timeout=None))
            proxy = await stack.enter_async_context(ServedApp(Proxy("api", upstream, wire)))
            config["clusters"][0]["cluster"] = {"server": proxy.url}
            site = await stack.enter_async_context(
                running_site(
                    *self._urls, self._home / "site", TargetKind.KUBERNETES, target=self._target(config), wire=wire
                )
            )
            site.image = f"{self.registry.host}/bases/python:bookworm"
            await site.deploy()
            yield site

    def objects(self, kinds: str) -> list[dict[str, Any]]:
        """What is Slipway's in the namespace."""
        return self.cluster.get(kinds, self.namespace, MANAGED)

    def _target(self, config: dict[str, Any]) -> TargetDraft:
        draft = target_of(self.cluster, self.namespace, self.registry, ("append",))
        cluster: dict[str, Any] = dict(draft.settings["cluster"])  # type: ignore[arg-type]
        cluster |= {"kubeconfig": yaml.safe_dump(config), "request_seconds": 3}
        return draft.model_copy(update={"settings": {**draft.settings, "cluster": cluster}})


@pytest.fixture
def sites(
    kubernetes_cluster: Kubectl,
    namespace: str,
    inference_registry: Registry,
    database_url: str,
    valkey_url: str,
    tmp_path: Path,
) -> ClusterSites:
    return ClusterSites(kubernetes_cluster, namespace, inference_registry, database_url, valkey_url, tmp_path)


async def test_a_builder_that_is_killed_carries_on(sites: ClusterSites) -> None:
    points, chance = chosen(CLUSTER, few=2, ci=2, full=15)
    async with sites.start() as site:
        client = RegistryClient(access_to(sites.registry))

        async def check() -> None:
            await check_cluster(site, sites.objects)
            await check_registry(site, client, "inference")

        await site.until_aliased(await site.version(b"first"))
        rounds = Rounds(site, chance, check)
        for point in points:
            await rounds.play(point)
        await client.aclose()


@pytest.mark.timeout(AWAY_SECONDS + 300)
async def test_a_cluster_that_is_away_serves_on_and_is_caught_up_with(sites: ClusterSites) -> None:
    assert sites.cluster.cluster is not None
    async with sites.start() as site:
        first = await site.version(b"first")
        await site.until_available(first, READY_SECONDS)
        second = await site.version(b"second", alias=False)
        await site.until_available(second, READY_SECONDS)
        await site.until_rows("SELECT 1 FROM aliases")
        answers: Counter[tuple[int, str]] = Counter()
        asking = asyncio.create_task(_ask_on(site, answers))
        clock = asyncio.get_running_loop().time
        with sites.cluster.cluster.away():
            began = clock()
            third = await site.version(b"third", alias=False)
            moved = await site.move(second["id"])
            site.moves.append(second["id"])
            assert moved["confirmed_routers"] == 1, "a move needs no cluster"
            assert await site.asked(ALIAS) == (200, second["name"])
            async with site.speaker() as speaker:
                await speaker.call("DELETE", f"versions/{first['id']}")
            (row,) = await site.until_rows(
                "SELECT status, status_detail FROM endpoints WHERE version_id = :id AND status_detail LIKE '%answer%'",
                id=UUID(second["id"]),
            )
            told = clock() - began
            assert row.status == "AVAILABLE", "it serves, and says what it knows"
            assert "as last seen. The target does not answer" in row.status_detail
            (seen,) = await site.rows(
                "SELECT problem FROM builder_pub.endpoint_v1 WHERE version_id = :id", id=UUID(second["id"])
            )
            assert seen.problem == "target_unreachable"
            await site.until_rows(
                "SELECT 1 FROM images WHERE version_id = :id AND status = 'ready'", id=UUID(third["id"])
            )
            (row,) = await site.rows(
                "SELECT status, status_detail FROM endpoints WHERE version_id = :id", id=UUID(third["id"])
            )
            assert row.status == "DEPLOYING"
            assert "does not answer" in row.status_detail
            await asyncio.sleep(max(0.0, AWAY_SECONDS - (clock() - began)))
        back = clock()
        await site.until_available(third, READY_SECONDS)
        await calm(site)
        caught_up = clock() - back
        await site.until_rows("SELECT 1 WHERE NOT EXISTS (SELECT FROM endpoints WHERE status_detail LIKE '%answer%')")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await check_rows(site)
        await check_routers(site)
        await check_cluster(site, sites.objects)
        print(
            f"\naway {AWAY_SECONDS:.0f} s: told after {told:.1f} s, caught up {caught_up:.1f} s later, {dict(answers)}"
        )
        assert set(answers) == {(200, first["name"]), (200, second["name"])}


async def _ask_on(site: Site, answers: Counter[tuple[int, str]]) -> None:
    while True:
        answers[await site.asked(ALIAS)] += 1
        await asyncio.sleep(0.05)


async def test_what_others_change_is_corrected_at_once_and_nothing_is_applied_without_need(sites: ClusterSites) -> None:
    async with sites.start() as site:
        version = await site.version(b"first", alias=False)
        await site.until_available(version, READY_SECONDS)
        (row,) = await site.rows("SELECT id FROM endpoints")
        name, kubectl = object_name(row.id), partial(sites.cluster, "-n", sites.namespace)
        wire = site.wires[0]
        await asyncio.sleep(4)
        wire.calls.clear()
        await asyncio.sleep(5)
        assert [call for call in wire.calls if "PATCH" in call or "DELETE" in call] == []

        def variables() -> dict[str, str]:
            (found,) = sites.objects("deployments")
            container = found["spec"]["template"]["spec"]["containers"][0]
            return {one["name"]: one.get("value", "") for one in container["env"]}

        async def corrected(what: str, *words: str) -> None:
            before = variables()
            kubectl(*words)
            clock = asyncio.get_running_loop().time
            began = clock()
            while variables() != before or {len(sites.objects(kind)) for kind in ("services", "networkpolicies")} != {
                1
            }:
                assert clock() - began < CORRECTED_SECONDS, f"{what} is not corrected"
                await asyncio.sleep(0.1)
            print(f"\n{what}: corrected after {clock() - began:.1f} s")

        await corrected("a variable of the deployment", "set", "env", f"deployment/{name}", "VALOHAI_PORT=1")
        await corrected("a deleted network policy", "delete", "networkpolicy", name)
        await corrected("a deleted service", "delete", "service", name)
        rules = '{"spec": {"ingress": [{}]}}'
        kubectl("patch", "networkpolicy", name, "--type=merge", "-p", rules)
        clock = asyncio.get_running_loop().time
        began = clock()
        while sites.objects("networkpolicies")[0]["spec"]["ingress"] == [{}]:
            assert clock() - began < CORRECTED_SECONDS, "an opened network policy is not corrected"
            await asyncio.sleep(0.1)
        print(f"\nan opened network policy: corrected after {clock() - began:.1f} s")
