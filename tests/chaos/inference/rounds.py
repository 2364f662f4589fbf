"""One kill after the other: a builder is struck at a point, started again, and everything must be as if it had not."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx

from tests.chaos.inference.checks import calm, check_folders, check_routers, check_rows
from tests.chaos.inference.points import Point
from tests.chaos.inference.site import Site

_FIRE_SECONDS = 90.0
_KEPT = 2
"""Versions that stay from round to round."""

Check = Callable[[], Awaitable[None]]


class Rounds:
    """Strikes the first builder of a site."""

    def __init__(self, site: Site, chance: random.Random, check: Check) -> None:
        self._site = site
        self._chance = chance
        self._check = check
        self._number = 0

    async def play(self, point: Point) -> None:
        """One round."""
        self._number += 1
        clock = asyncio.get_running_loop().time
        began = clock()
        await {"create": self._create, "move": self._move, "delete": self._delete}[point.during](point)
        await self._settled()
        await self._tidy()
        print(f"{self._number:3d}. {point.step} ({point.moment}): {clock() - began:.1f} s")

    async def _settled(self) -> None:
        await calm(self._site)
        await self._until_aliased()
        await check_rows(self._site)
        await check_routers(self._site)
        await check_folders(self._site)
        await self._check()

    async def _until_aliased(self) -> None:
        await self._site.until_rows(
            "SELECT 1 WHERE NOT EXISTS (SELECT FROM versions WHERE wanted_aliases <> '{}' AND deleted_at IS NULL)"
        )

    async def _tidy(self) -> None:
        """Delete the oldest versions, as long as there are more than a few."""
        for row in (await self._deletable())[: -_KEPT or None]:
            await self._call("DELETE", f"versions/{row.id}")
        await calm(self._site)

    async def _create(self, point: Point) -> None:
        site, wire, builder = self._site, self._site.wires[0], self._site.builders[0]
        known = {str(row.id) for row in await site.rows("SELECT id FROM versions")}
        if point.moment == "renewal":
            wire.strike = self._kill_after_renewal
            wire.arm("within", "gateway GET", "/code/")
        elif point.moment not in ("row", "random"):
            wire.arm(point.moment, *point.words, count=point.count)
        version = await self._new_version(known)
        if point.moment == "row":
            image = (await site.rows("SELECT id FROM images WHERE version_id = :id", id=version))[0].id
            await site.until_rows(point.words[0], id=image)
            await asyncio.sleep(self._chance.random() * 0.02)
            await builder.kill()
        elif point.moment == "random":
            await asyncio.sleep(self._chance.random() * 2.5)
            await builder.kill()
        else:
            async with asyncio.timeout(_FIRE_SECONDS):
                await wire.fired.wait()
        wire.disarm()
        wire.strike = builder.kill
        await builder.start()
        if not await site.rows("SELECT 1 FROM versions WHERE id = :id", id=version):
            version = await self._new_version(known)
        site.moves.append(str(version))

    async def _new_version(self, known: set[str]) -> UUID:
        """A version that wants the alias; its answer may be lost."""
        self._site.moves, moves = [], self._site.moves
        try:
            made = await self._site.version(os.urandom(20_000).hex().encode())
            return UUID(made["id"])
        except httpx.HTTPError:
            found = await self._site.rows("SELECT id FROM versions")
            new = [row.id for row in found if str(row.id) not in known]
            return UUID(str(new[0])) if new else UUID(int=0)
        finally:
            self._site.moves = moves

    async def _kill_after_renewal(self) -> None:
        rows = await self._site.rows("SELECT leased_until FROM images WHERE status = 'building'")
        await self._site.until_rows(
            "SELECT 1 FROM images WHERE status = 'building' AND leased_until > :known", known=rows[0].leased_until
        )
        await self._site.builders[0].kill()

    async def _move(self, point: Point) -> None:
        """Kill it while it waits for a router that does not answer; then say the same again, as a client does."""
        site, builder = self._site, self._site.builders[0]
        (target,) = [row.id for row in await self._deletable()][:1] or [await self._spare()]
        os.kill(site.routers[0].pid, signal.SIGSTOP)
        try:
            moving = asyncio.create_task(site.move(str(target)))
            await site.until_rows("SELECT 1 FROM aliases WHERE version_id = :id", id=target)
            await asyncio.sleep(self._chance.random() * 0.05)
            await builder.kill()
            await asyncio.gather(moving, return_exceptions=True)
        finally:
            os.kill(site.routers[0].pid, signal.SIGCONT)
        site.moves.append(str(target))
        await builder.start()
        assert (await site.move(str(target)))["version_id"] == str(target)

    async def _delete(self, point: Point) -> None:
        site, wire, builder = self._site, self._site.wires[0], self._site.builders[0]
        (target,) = [row.id for row in await self._deletable()][:1] or [await self._spare()]
        if point.moment not in ("now", "random"):
            wire.arm(point.moment, *point.words, count=point.count)
        await self._call("DELETE", f"versions/{target}", may_break=True)
        if point.moment in ("now", "random"):
            await asyncio.sleep(self._chance.random() * (0.05 if point.moment == "now" else 1.5))
            await builder.kill()
        else:
            async with asyncio.timeout(_FIRE_SECONDS):
                await wire.fired.wait()
        wire.disarm()
        await builder.start()
        if not await site.rows("SELECT 1 FROM versions WHERE id = :id AND deleted_at IS NOT NULL", id=target):
            await self._call("DELETE", f"versions/{target}")

    async def _spare(self) -> UUID:
        """A version without an alias."""
        version = await self._site.version(os.urandom(500).hex().encode(), alias=False)
        await self._site.until_available(version)
        return UUID(version["id"])

    async def _deletable(self) -> list[Any]:
        return await self._site.rows(
            """
            SELECT id FROM versions v WHERE deleted_at IS NULL
                AND NOT EXISTS (SELECT FROM aliases a WHERE a.version_id = v.id) ORDER BY created_at
            """
        )

    async def _call(self, method: str, path: str, *, may_break: bool = False) -> None:
        try:
            async with self._site.speaker() as speaker:
                await speaker.call(method, path)
        except httpx.HTTPError:
            if not may_break:
                raise
