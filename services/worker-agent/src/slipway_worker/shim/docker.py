"""Runs an attempt as a container that the agent has created; talks to the engine's socket itself."""

import http.client
import io
import json
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

from slipway_runtime.layout import DockerSpec
from slipway_worker.shim.process import Ended
from slipway_worker.shim.reactor import Reactor

_RECONNECT_SECONDS: Final = 0.5
_GONE_AFTER_SECONDS: Final = 600.0
_NOT_FOUND: Final = 404

Answered = Callable[[int, Any], None]
"""Called with the HTTP status and the parsed body; status 0 = the connection was lost."""


class _Stored:
    """Lets `http.client` parse an answer that was read before."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_arguments: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


class EngineCall:
    """One request to the engine. The answer is collected by the reactor, so nothing waits for it."""

    def __init__(self, reactor: Reactor, path: str, method: str, target: str, body: Any, answered: Answered) -> None:
        self._reactor = reactor
        self._answered = answered
        self._received = bytearray()
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(5.0)
        try:
            self._socket.connect(path)
            self._socket.sendall(head.encode() + payload)
        except OSError:
            self._socket.close()
            reactor.call_later(0.0, lambda: answered(0, None))
            return
        self._socket.setblocking(False)
        reactor.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received += data
            return
        self._reactor.remove_reader(self._socket.fileno())
        self._socket.close()
        self._answered(*_parse_answer(bytes(self._received)))


def _parse_answer(received: bytes) -> tuple[int, Any]:
    response = http.client.HTTPResponse(_Stored(received))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
        return response.status, json.loads(body) if body.strip() else None
    except (http.client.HTTPException, OSError, ValueError):
        return 0, None


class DockerRun:
    """A container from its start to its end. A restart of the engine is waited for."""

    def __init__(self, reactor: Reactor, spec: DockerSpec, ended: Ended) -> None:
        self._reactor = reactor
        self._spec = spec
        self._ended = ended
        self._started = False
        self._kill_wanted = False
        self._lost_seconds = 0.0

    def start(self) -> None:
        """Start the container; one that already runs is taken over."""
        self._call("POST", "/start", None, self._start_answered)

    def signal(self, number: int) -> None:
        """Send a signal to every process of the container but its init."""
        if not self._started:
            self.kill()
            return
        name = signal.Signals(number).name.removeprefix("SIG")
        request = {"Cmd": ["/bin/sh", "-c", f"kill -{name} -1"], "User": "0:0"}
        self._call("POST", "/exec", request, self._exec_created)

    def kill(self) -> None:
        """End the container now."""
        self._kill_wanted = True
        self._call("POST", "/kill?signal=KILL", None, _ignore)

    def _exec_created(self, status: int, body: Any) -> None:
        if status and isinstance(body, dict) and "Id" in body:
            request = {"Detach": True, "Tty": False}
            EngineCall(self._reactor, self._spec.socket, "POST", f"/exec/{body['Id']}/start", request, _ignore)

    def _start_answered(self, status: int, body: Any) -> None:
        if status == 0:
            self._reconnect()
        elif status in {http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED}:
            self._started = True
            if self._kill_wanted:
                self.kill()
            self._wait()
        else:
            message = body.get("message") if isinstance(body, dict) else None
            self._ended(None, None, False, f"the container could not be started: {message or f'HTTP {status}'}")

    def _wait(self) -> None:
        self._call("POST", "/wait", None, self._wait_answered)

    def _wait_answered(self, status: int, body: Any) -> None:
        if status == 0:
            self._reconnect()
        else:
            # The wait's answer lacks the memory verdict, so the container itself is asked in every case.
            self._inspect()

    def _reconnect(self) -> None:
        self._lost_seconds += _RECONNECT_SECONDS
        if self._lost_seconds > _GONE_AFTER_SECONDS:
            self._ended(None, None, False, "the container engine has not answered for 10 minutes")
            return
        self._reactor.call_later(_RECONNECT_SECONDS, self._inspect)

    def _inspect(self) -> None:
        self._call("GET", "/json", None, self._inspect_answered)

    def _inspect_answered(self, status: int, body: Any) -> None:
        if status == 0:
            self._reconnect()
            return
        self._lost_seconds = 0.0
        if status == _NOT_FOUND or not isinstance(body, dict):
            self._ended(None, None, False, "the container is gone: it was removed outside of Slipway")
            return
        state = body["State"]
        if state["Status"] == "created":
            self.start()
        elif state["Running"] or state["Status"] == "removing":
            self._started = True
            self._wait()
        else:
            code = int(state["ExitCode"])
            number = code - 128 if code in {128 + signal.SIGKILL, 128 + signal.SIGSEGV, 128 + signal.SIGABRT} else None
            self._ended(code, number, bool(state.get("OOMKilled")), state.get("Error") or None)

    def _call(self, method: str, action: str, body: Any, answered: Answered) -> None:
        target = f"/containers/{self._spec.container}{action}"
        EngineCall(self._reactor, self._spec.socket, method, target, body, answered)


def _ignore(_status: int, _body: Any) -> None:
    """The container's end is seen by the wait; how a signal was received does not matter."""
