"""Follows what a container writes, as the engine keeps it."""

import asyncio
import struct
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final

import aiodocker

from slipway_kit.transfer import TRANSFER_ERRORS

_HEADER: Final = struct.Struct(">BxxxL")
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_LONGEST_LINE: Final = 64 * 1024
_ENDED: Final = (*TRANSFER_ERRORS, asyncio.IncompleteReadError)


async def follow(
    docker: aiodocker.Docker, container_id: str, after: datetime
) -> AsyncGenerator[tuple[str, str, bytes], None]:
    """Stream, time as the engine writes it, and bytes of each line, from the second of `after` on.

    Ends when the container does. Raises `DockerError`. The library's own reader fails at bytes that are not UTF-8.
    """
    params = {"stdout": "1", "stderr": "1", "follow": "1", "timestamps": "1", "since": str(int(after.timestamp()))}
    async with docker._query(f"containers/{container_id}/logs", params=params, timeout=None) as response:
        begun: dict[str, tuple[str, bytes]] = {}
        while True:
            try:
                kind, size = _HEADER.unpack(await response.content.readexactly(_HEADER.size))
                entry = await response.content.readexactly(size)
            except _ENDED:
                return
            stream = _STREAMS.get(kind, "stdout")
            stamp, _, text = entry.partition(b" ")
            # A long line comes in parts, each with a time of its own; the last part has the line feed.
            at, before = begun.pop(stream, (stamp.decode(errors="replace"), b""))
            whole = before + text
            if text.endswith(b"\n") or len(whole) >= _LONGEST_LINE:
                yield stream, at, whole.removesuffix(b"\n")
            else:
                begun[stream] = (at, whole)
