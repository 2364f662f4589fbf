"""One attempt from start to exit record: copies output, keeps timers, climbs the stop ladder."""

import os
import signal
import sys
import time
import traceback
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from slipway_runtime.layout import (
    AttemptLayout,
    ExitReason,
    ExitRecord,
    RunLimits,
    ShimIdentity,
    ShimSpec,
    process_start_ticks,
    write_private_json,
)
from slipway_worker.shim.control import ControlSocket
from slipway_worker.shim.docker import DockerRun
from slipway_worker.shim.pipes import PipeCopier
from slipway_worker.shim.process import ProcessRun
from slipway_worker.shim.reactor import Reactor, Timer
from slipway_worker.shim.spool import SpoolWriter

_DISK_RETRY_SECONDS: Final = 1.0


class Shim:
    """Runs what the spec says and writes `exit.json` last, when all output is durable in the spool."""

    def __init__(self, layout: AttemptLayout) -> None:
        self._layout = layout
        self._spec = ShimSpec.read(layout.spec_file)
        self._limits = self._spec.limits
        self._reactor = Reactor()
        self._started_at, self._began = self._first_start()
        self._last_output = time.monotonic()
        self._stops = 0
        self._reason: ExitReason | None = None
        self._result: tuple[int | None, int | None, bool, str | None] | None = None
        self._time_timer: Timer | None = None
        self._output_timer: Timer | None = None
        self._ladder: list[Timer] = []
        self._spool = SpoolWriter(layout.spool, self._spec.roll_bytes)
        self._copier = PipeCopier(self._reactor, layout.pipes, self._spool, self._note_output, self._note_blocked)
        self._run = self._make_run()

    def run(self) -> None:
        """Run to the end."""
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            # A handler, not SIG_IGN: what the shim starts must not inherit an ignored signal.
            signal.signal(ignored, lambda _signal, _frame: None)
        identity = ShimIdentity(os.getpid(), process_start_ticks(os.getpid()) or 0, self._started_at)
        control = ControlSocket(self._reactor, self._layout.socket, self._handle)
        write_private_json(self._layout.shim_file, asdict(identity))
        self._set_timers()
        self._run.start()
        self._reactor.run_until(lambda: self._result is not None)
        self._give_up_reserve()
        self._copier.drain()
        self._write_end()
        control.close()

    def _write_end(self) -> None:
        """Make everything durable and say so; on a full disk for as long as it takes, for nobody else knows the end."""
        while True:
            try:
                self._spool.close()
                self._record().write(self._layout.exit_file)
            except OSError:
                traceback.print_exc(file=sys.stderr)
                time.sleep(_DISK_RETRY_SECONDS)
            else:
                return

    def _give_up_reserve(self) -> None:
        """Free the room that was kept for what is still to be written."""
        self._layout.reserve.unlink(missing_ok=True)

    def _first_start(self) -> tuple[str, float]:
        """When the attempt began, also when an earlier shim of it was lost."""
        earlier = ShimIdentity.read(self._layout.shim_file)
        now = datetime.now(UTC)
        if earlier is None:
            return now.isoformat(), time.monotonic()
        past = (now - datetime.fromisoformat(earlier.started_at)).total_seconds()
        return earlier.started_at, time.monotonic() - max(0.0, past)

    def _make_run(self) -> ProcessRun | DockerRun:
        if self._spec.process is not None:
            return ProcessRun(self._reactor, self._spec.process, self._layout.pipes, self._ended)
        if self._spec.docker is not None:
            return DockerRun(self._reactor, self._spec.docker, self._ended)
        raise ValueError("the spec names neither a process nor a container")

    def _ended(self, code: int | None, number: int | None, oom: bool, error: str | None) -> None:
        self._result = (code, number, oom, error)

    def _record(self) -> ExitRecord:
        code, number, oom, error = self._result or (None, None, False, None)
        reason = self._reason
        if code is None and error is not None and reason is None:
            reason = "start_failed"
        finished = datetime.now(UTC).isoformat()
        return ExitRecord(code, number, oom, reason, error, self._started_at, finished, self._copier.totals())

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "stop":
                self._stop(request.get("reason", "stopped"))
            case "kill":
                self._kill()
            case "limits":
                known = {field.name for field in fields(RunLimits)}
                self._limits = replace(self._limits, **{k: v for k, v in request.items() if k in known})
                self._set_timers()
            case "status":
                return {
                    "pid": os.getpid(),
                    "started_at": self._started_at,
                    "stops": self._stops,
                    "reason": self._reason,
                    "bytes": self._copier.totals(),
                    "silent_seconds": time.monotonic() - self._last_output,
                }
            case unknown:
                raise ValueError(f"unknown op {unknown!r}")
        return {"stops": self._stops}

    def _stop(self, reason: ExitReason) -> None:
        """First call: INT, then TERM, then KILL. Any further call: KILL now."""
        if self._stops:
            self._kill()
            return
        self._stops = 1
        self._reason = reason
        self._run.signal(signal.SIGINT)
        term = self._limits.int_grace
        self._ladder = [
            self._reactor.call_later(term, lambda: self._run.signal(signal.SIGTERM)),
            self._reactor.call_later(term + self._limits.term_grace, self._kill),
        ]

    def _kill(self) -> None:
        self._stops += 1
        self._reason = self._reason or "killed"
        for timer in self._ladder:
            timer.cancel()
        self._run.kill()

    def _set_timers(self) -> None:
        for timer in (self._time_timer, self._output_timer):
            if timer is not None:
                timer.cancel()
        self._time_timer = self._output_timer = None
        if self._limits.time_limit:
            left = self._began + self._limits.time_limit - time.monotonic()
            self._time_timer = self._reactor.call_later(max(0.0, left), self._time_is_up)
        if self._limits.no_output_timeout:
            self._output_timer = self._reactor.call_later(self._limits.no_output_timeout, self._check_output)

    def _time_is_up(self) -> None:
        if not self._stops:
            self._stop("time_limit")

    def _note_output(self) -> None:
        self._last_output = time.monotonic()

    def _note_blocked(self, seconds: float) -> None:
        """End a run whose output cannot be kept: its writers stand still, and nobody else will ever end it."""
        if seconds > self._limits.disk_patience and not self._stops:
            self._reason = "disk_full"
            self._kill()

    def _check_output(self) -> None:
        left = self._last_output + (self._limits.no_output_timeout or 0.0) - time.monotonic()
        if left > 0:
            self._output_timer = self._reactor.call_later(left, self._check_output)
        elif not self._stops:
            self._stop("no_output")


def run_shim(layout: AttemptLayout) -> None:
    """Be the shim of an attempt. An attempt that has ended is left alone; any failure ends in an exit record."""
    if layout.exit_file.exists():
        return
    try:
        Shim(layout).run()
    except Exception as error:  # noqa: BLE001 - whatever happened, the agent must learn that this run is over
        traceback.print_exc(file=sys.stderr)
        finished = datetime.now(UTC).isoformat()
        text = f"the shim failed: {type(error).__name__}: {error}"
        ExitRecord(None, None, False, "start_failed", text, None, finished, {}).write(layout.exit_file)


def layout_of(root: str) -> AttemptLayout:
    """The layout as far as the shim needs it: it never looks at the volatile directory."""
    return AttemptLayout(Path(root), Path(root) / "volatile")
