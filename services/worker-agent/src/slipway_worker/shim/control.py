"""The shim's control socket: one JSON object per line in, one out."""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from slipway_worker.shim.reactor import Reactor

_MAX_REQUEST_BYTES: Final = 64 * 1024

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlSocket:
    """Listens in the attempt's directory, which only the agent's user can enter."""

    def __init__(self, reactor: Reactor, path: Path, handle: Handler) -> None:
        self._reactor = reactor
        self._handle = handle
        self._path = path
        self._listener = listen(path)
        self._buffers: dict[int, bytes] = {}
        reactor.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more."""
        self._reactor.remove_reader(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._buffers[connection.fileno()] = b""
            self._reactor.add_reader(connection.fileno(), lambda: self._readable(connection))

    def _readable(self, connection: socket.socket) -> None:
        number = connection.fileno()
        try:
            data = connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffer = self._buffers[number] + data
        if not data or len(buffer) > _MAX_REQUEST_BYTES:
            self._reactor.remove_reader(number)
            del self._buffers[number]
            connection.close()
            return
        *lines, self._buffers[number] = buffer.split(b"\n")
        for line in lines:
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **self._handle(json.loads(line))}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def listen(path: Path) -> socket.socket:
    """A listening Unix socket, 0600. Works for paths longer than the 108 bytes that the kernel takes."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.umask(before)
        os.close(directory)
    listener.listen(128)
    return listener
