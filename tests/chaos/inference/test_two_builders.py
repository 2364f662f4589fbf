"""Two builders on one database: one is stopped in the middle of its work for longer than its lease, and goes on."""

import asyncio
import os
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import EndpointChange, Scale
from tests.chaos.inference.checks import (
    calm,
    check_containers,
    check_folders,
    check_processes,
    check_routers,
    check_rows,
    remove_images,
)
from tests.chaos.inference.points import ENGINE, GATEWAY, Point, chosen
from tests.chaos.inference.site import LEASE_SECONDS, Site, running_site

ROLLOUT = (Point("the rollout is under way", "row", ()),)
_AVAILABLE = "SELECT 1 FROM endpoints WHERE version_id = :id AND status = 'AVAILABLE'"
_ASLEEP_SECONDS = 1.5 * LEASE_SECONDS


async def test_on_the_process_target(database_url: str, valkey_url: str, tmp_path: Path) -> None:
    points, _ = chosen((*GATEWAY, *ROLLOUT), few=1, ci=2, full=15)
    async with running_site(database_url, valkey_url, tmp_path, TargetKind.PROCESS, builders=2) as site:
        await _play(site, points, partial(check_processes, site))


@pytest.mark.docker
async def test_on_the_docker_target(database_url: str, valkey_url: str, tmp_path: Path) -> None:
    points, _ = chosen(tuple(one for one in ENGINE if one.during == "create"), few=1, ci=2, full=15)
    async with running_site(database_url, valkey_url, tmp_path, TargetKind.DOCKER, builders=2) as site:
        try:
            await _play(site, points, partial(check_containers, site))
        finally:
            remove_images(site)


async def _play(site: Site, points: list[Point], check: object) -> None:
    await site.deploy()
    first = await site.version(b"first")
    await site.until_available(first)
    await _aliased(site)
    for number, point in enumerate(points):
        asleep = await _put_to_sleep(site, point)
        version, other = site.moves[-1], 1 - asleep
        # The other one finishes it, and wants are changed meanwhile: what the sleeper knows is old.
        await site.until_rows(
            "SELECT 1 FROM endpoints WHERE version_id = :id AND status = 'AVAILABLE'", id=UUID(version)
        )
        await _aliased(site)
        await site.move(first["id"], number=other)
        site.moves.append(first["id"])
        async with site.speaker(other) as speaker:
            endpoint = (await speaker.endpoint(version))["id"]
            for replicas in (0, 1):
                change = EndpointChange(scale=Scale(replicas=replicas))
                await speaker.call("PATCH", f"endpoints/{endpoint}", change)
        await site.until_rows(
            "SELECT 1 FROM endpoints WHERE version_id = :id AND status = 'AVAILABLE'", id=UUID(version)
        )
        await asyncio.sleep(_ASLEEP_SECONDS)
        await site.builders[asleep].go_on()
        await asyncio.sleep(1.0)
        await calm(site)
        await check_rows(site)
        await check_routers(site)
        await check_folders(site)
        await check()  # type: ignore[operator]
        async with site.speaker() as speaker:
            await speaker.call("DELETE", f"versions/{version}")
        await calm(site)
        await check_routers(site)
        await check()  # type: ignore[operator]
        print(f"{number + 1:3d}. asleep: {point.step} ({point.moment})")


async def _put_to_sleep(site: Site, point: Point) -> int:
    """Stop the builder that is at the point; which one that is."""
    for number, wire in enumerate(site.wires):
        wire.strike, wire.kills = partial(_stop, site, number), False
        if point.moment != "row":
            wire.arm(point.moment, *point.words, count=point.count)
    made = await site.version(os.urandom(20_000).hex().encode())
    if point.moment == "row":
        await site.until_rows("SELECT 1 FROM endpoints WHERE serving AND version_id = :id", id=UUID(made["id"]))
        await site.builders[0].stop()
        return 0
    tasks = [asyncio.create_task(wire.fired.wait()) for wire in site.wires]
    done, rest = await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for one in rest:
        one.cancel()
    assert done, f"nothing came to {point}"
    return tasks.index(done.pop())


async def _stop(site: Site, number: int) -> None:
    for wire in site.wires:
        wire.disarm()
    await site.builders[number].stop()


async def _aliased(site: Site) -> None:
    await site.until_rows("SELECT 1 FROM aliases WHERE version_id = :id", id=UUID(site.moves[-1]))
