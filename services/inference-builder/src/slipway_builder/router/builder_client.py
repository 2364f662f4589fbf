"""The one call to the builder, over one kept connection.

A router is to start quickly and to idle in little memory, so this is not `slipway_kit.http`, which brings two HTTP
clients and a web framework along.
"""

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httptools
from pydantic import ValidationError

from slipway_schemas.inference.routing import RouterSync, TableChanges

_PATH = "/internal/v1/routers/sync"
_CONNECT_SECONDS = 3.0
_PATIENCE_SECONDS = 10.0
"""How much longer than asked for the builder may hold a call."""
_THREAD_BYTES = 64 * 1024
"""A bigger table is read in a thread."""


class BuilderAway(Exception):
    """The builder cannot be reached or refuses; the message says which and why."""


class BuilderClient:
    """Calls `POST /internal/v1/routers/sync`."""

    def __init__(self, url: str, token_file: Path) -> None:
        parts = urlsplit(url)
        self._url = url.rstrip("/")
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/") + _PATH
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._token_file = token_file
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def connected(self) -> bool:
        """Whether the next call goes over the connection of the last one: to the builder that answered it."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def sync(self, body: RouterSync) -> TableChanges:
        """Say what this router has and wait for what is new. Raises `BuilderAway`."""
        try:
            async with asyncio.timeout(body.wait_seconds + _PATIENCE_SECONDS):
                status, content = await self._call(body.model_dump_json().encode())
            if status != 200:
                raise BuilderAway(f"The builder ({self._url}) answered {status}: {_said(content)}")
            if len(content) < _THREAD_BYTES:
                return TableChanges.model_validate_json(content)
            return await asyncio.to_thread(TableChanges.model_validate_json, content)
        except TimeoutError:
            self.close()
            raise BuilderAway(f"The builder ({self._url}) does not answer in time.") from None
        except (OSError, EOFError, ssl.SSLError, httptools.HttpParserError) as error:
            self.close()
            raise BuilderAway(f"The builder ({self._url}) cannot be reached: {error}.") from error
        except ValidationError as error:
            raise BuilderAway(
                f"The builder ({self._url}) gave a table that this router cannot read; are they of different versions?"
            ) from error
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Close the kept connection; a later call opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _call(self, content: bytes) -> tuple[int, bytes]:
        token = self._token_file.read_text().strip()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._authority}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        if self._streams is None or not self.connected:
            self.close()
            async with asyncio.timeout(_CONNECT_SECONDS):
                self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        reader, writer = self._streams
        writer.write(head.encode() + content)
        await writer.drain()
        answer = _Answer()
        while not answer.complete:
            data = await reader.read(256 * 1024)
            if not data:
                raise EOFError("it closed the connection")
            answer.parser.feed_data(data)
        if not answer.keep_alive:
            self.close()
        return answer.status, b"".join(answer.parts)


class _Answer:
    """Gathers one answer."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.status = 0
        self.keep_alive = False
        self.complete = False

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


def _said(content: bytes) -> str:
    return content[:300].decode(errors="replace")
