"""The aiohttp session for bytes: large bodies to and from object stores by signed URLs."""

import aiohttp
from aiohttp import ClientResponse, ClientSession

TRANSFER_ERRORS = (aiohttp.ClientError, TimeoutError)
"""What a request raises when the connection fails, breaks off or is silent for too long."""

__all__ = ["TRANSFER_ERRORS", "ClientResponse", "ClientSession", "transfer_session"]

_READ_BUFFER_BYTES = 1024 * 1024


def transfer_session(*, connections: int = 32, idle_seconds: float = 60) -> ClientSession:
    """A session without a limit on the whole transfer, but on connecting (10 s) and on silence
    (`idle_seconds`).

    Bodies are passed as they are stored (no decompression), so checksums and ranges stay true. Close it
    after use.
    """
    return ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_seconds),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )
