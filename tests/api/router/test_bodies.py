"""Large bodies pass in both directions without being held in memory."""

import asyncio
import hashlib

import pytest

from slipway_testing.wire import Wire, request
from tests.api.router.support import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 100 * 1024 * 1024
MOST_GROWTH = 24 * 1024 * 1024
_BLOCK = bytes(range(256)) * 256


class _Peak:
    """The largest memory of the router while it works."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.bytes = 0

    async def watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, await asyncio.to_thread(self._site.router.memory_bytes))
            await asyncio.sleep(0.05)


async def test_a_hundred_megabytes_up(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    before, peak = site.router.memory_bytes(), _Peak(site)
    watching = asyncio.create_task(peak.watch())
    digest = hashlib.sha256()
    async with Wire(site.router.port, timeout=60) as wire:
        await wire.send(request("POST", f"{site.path('v')}/echo", f"Content-Length: {SIZE}"))
        for _ in range(SIZE // len(_BLOCK)):
            digest.update(_BLOCK)
            await wire.send(_BLOCK)
        answer = (await wire.answer()).json()
    watching.cancel()
    assert (answer["body_bytes"], answer["body_sha256"]) == (SIZE, digest.hexdigest())
    assert peak.bytes - before < MOST_GROWTH


async def test_a_hundred_megabytes_down_to_a_slow_reader(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    before, peak = site.router.memory_bytes(), _Peak(site)
    watching = asyncio.create_task(peak.watch())
    async with Wire(site.router.port, timeout=60) as wire:
        await wire.send(request("GET", f"{site.path('v')}/bytes-{SIZE}"))
        status, headers = await wire.head()
        assert (status, dict(headers)["content-length"]) == (200, str(SIZE))
        await asyncio.sleep(0.5)
        left = SIZE
        while left:
            left -= len(await wire.reader.read(2**20))
    watching.cancel()
    assert peak.bytes - before < MOST_GROWTH
