"""Forks shims in milliseconds: `python -m slipway_worker.shim.zygote <socket>`.

Single-threaded and standard library only, so that a fork is safe and cheap. It outlives the agent.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from slipway_worker.shim.control import listen
from slipway_worker.shim.shim import layout_of, run_shim

PROTOCOL: Final = 1
"""Raised when agent and zygote of different releases no longer understand each other."""

_REQUEST_SECONDS: Final = 5.0


class Zygote:
    """Serves one request after the other; each takes about a millisecond."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = listen(path)
        self._listener.setblocking(True)
        self._exit = False

    def serve(self) -> None:
        """Serve until asked to exit."""
        # Children are reaped by the kernel.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        gc.freeze()
        pid_file = self._path.with_suffix(".pid")
        pid_file.write_text(f"{os.getpid()}\n")
        while not self._exit:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(_REQUEST_SECONDS)
                request = json.loads(connection.makefile("rb").readline())
                answer = self._handle(request, connection)
                connection.sendall(json.dumps(answer).encode() + b"\n")
        self._listener.close()
        self._path.unlink(missing_ok=True)
        pid_file.unlink(missing_ok=True)

    def _handle(self, request: dict[str, Any], connection: socket.socket) -> dict[str, Any]:
        match request.get("op"):
            case "start":
                return {"ok": True, "pid": self._fork(str(request["attempt"]), connection)}
            case "ping":
                return {"ok": True, "pid": os.getpid(), "protocol": PROTOCOL}
            case "exit":
                self._exit = True
                return {"ok": True}
            case unknown:
                return {"ok": False, "error": f"unknown op {unknown!r}"}

    def _fork(self, attempt: str, connection: socket.socket) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            self._listener.close()
            log = os.open(f"{attempt}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            run_shim(layout_of(attempt))
        finally:
            sys.stderr.flush()
            os._exit(0)


def main() -> None:
    """Listen, leave the caller's session and serve in the background; the caller's process ends when it can connect."""
    zygote = Zygote(Path(sys.argv[1]).absolute())
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    zygote.serve()


if __name__ == "__main__":
    main()
