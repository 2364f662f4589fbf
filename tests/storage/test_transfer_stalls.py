"""A peer that takes nothing any more ends a try: a cut network sends no reset."""

import asyncio
import time
from pathlib import Path

import pytest

from slipway_kit.errors import Unavailable
from slipway_kit.transfer import transfer_session
from slipway_storage.transfer import PutTicket, upload
from slipway_storage.transfer.retries import RetryPolicy


async def test_an_upload_does_not_wait_for_ever_in_its_body(tmp_path: Path) -> None:
    held = []

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append((reader, writer))
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    server = await asyncio.start_server(take_nothing, "127.0.0.1", 0)
    file = tmp_path / "big"
    with file.open("wb") as opened:
        opened.truncate(64 * 1024**2)
    ticket = PutTicket(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    began = time.monotonic()
    async with transfer_session(idle_seconds=0.5) as session:
        with pytest.raises(Unavailable):
            await upload(session, file, ticket, policy=RetryPolicy(tries=1))
    assert time.monotonic() - began < 10
    for _, writer in held:
        writer.transport.abort()
    server.close()
