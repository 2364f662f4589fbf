"""HAProxy's runtime socket."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from slipway_builder.router.engines.protocol import EngineError

ANSWER_SECONDS = 5.0


async def run_commands(socket: Path, lines: Sequence[str]) -> None:
    """Send command lines one after the other; none of them has anything to say when it succeeds.

    Raises `EngineError` when HAProxy does not answer or refuses one.
    """
    for line in lines:
        said = (await ask(socket, line)).strip()
        if said:
            raise EngineError(f"HAProxy refused a change of its maps: {said.splitlines()[0]}")


async def ask(socket: Path, line: str) -> str:
    """Send one line and return what HAProxy says to it. Raises `EngineError`."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{line}\n".encode())
                return (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise EngineError(
            f"HAProxy does not answer on its runtime socket: {str(error) or type(error).__name__}"
        ) from error
