"""The linear script of one attempt. Every step can be taken up again by an agent that starts anew."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from slipway_kit.errors import Conflict
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_runtime.errors import ContainerError
from slipway_runtime.layout import ShimSpec
from slipway_runtime.runtimes.protocol import RunHandle
from slipway_schemas.executions import Resources
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.workers import AttemptReport
from slipway_worker.attempts.log import AttemptLog
from slipway_worker.attempts.outcome import (
    STOPPED_CODE,
    AttemptFailure,
    ending_of_run,
    failure_of,
)
from slipway_worker.attempts.platform import AttemptPlatform, Superseded
from slipway_worker.attempts.preparing import Preparation, ask_materials
from slipway_worker.attempts.record import AttemptRecord, Ending, StopLevel
from slipway_worker.attempts.secrets import keep_secrets, kept_secrets
from slipway_worker.attempts.services import AttemptServices
from slipway_worker.attempts.stop_condition import StopCondition
from slipway_worker.outputs.collecting import OutputCollector
from slipway_worker.outputs.ledger import UploadLedger
from slipway_worker.outputs.uploading import Uploader
from slipway_worker.shim.client import ShimHandle, ShimUnreachable
from slipway_worker.spool.reading import NumberedRecord

_LOG = get_logger()
_POLL_SECONDS: Final = 0.02
_RETRY_SECONDS: Final = 0.5
_KILL_SECONDS: Final = 30.0
_FOREVER: Final = float("inf")

R = TypeVar("R")


class _Stopped(Exception):
    """A stop came before the run was launched."""


class AttemptRunner:
    """Brings one attempt from its assignment to its end, or takes up where an earlier agent was."""

    def __init__(self, record: AttemptRecord, services: AttemptServices) -> None:
        self._record = record
        self._services = services
        assignment = record.state.assignment
        self._document = assignment.document
        self._troubles: dict[str, str] = {}
        self._stop_wanted = asyncio.Event()
        self._wanted = record.state.stop_level
        self._platform = AttemptPlatform(services.settings.server_url, record.attempt_id, assignment.token)
        self._log = AttemptLog(record.layout, self._platform, services.clock, self._trouble("log"))
        expression = self._document.spec.stop_condition
        self._condition = StopCondition(expression) if expression else None
        self._task: asyncio.Task[None] | None = None
        self._ledger = UploadLedger(record.layout.root / "outputs.jsonl")

    @property
    def record(self) -> AttemptRecord:
        """The attempt's state on disk."""
        return self._record

    @property
    def holds_slot(self) -> Resources | None:
        """What the run still uses of the machine; None once its process has ended."""
        return None if self._record.state.slot_free else self._document.spec.resources

    def report(self) -> AttemptReport:
        """What the scheduler is told at every sync."""
        state = self._record.state
        detail = "; ".join(text for text in self._troubles.values() if text)
        return AttemptReport(
            attempt_id=self._record.attempt_id, phase=state.phase, detail=detail, stop_level=state.stop_level
        )

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends when nothing of the attempt is left on this machine."""
        self._task = asyncio.create_task(self._run(), name=f"attempt-{self._record.attempt_id}")
        return self._task

    def stop(self, level: StopLevel, reason: EndReason) -> None:
        """Have the run ended: the graceful ladder, or now. The first reason counts."""
        if level <= self._wanted and level <= self._record.state.stop_level:
            return
        if self._record.state.stop_level == StopLevel.NONE and self._wanted == StopLevel.NONE:
            self._record.change(stop_reason=reason)
        self._wanted = max(self._wanted, level)
        self._stop_wanted.set()

    async def supersede(self) -> None:
        """Another attempt has taken over: kill, clean up, tell nobody."""
        self._record.change(superseded=True)
        if self._task is not None and self._task is not asyncio.current_task():
            await cancel_and_wait(self._task)
        await self._clean_up_superseded()

    async def _run(self) -> None:
        try:
            if self._record.state.superseded:
                await self._clean_up_superseded()
                return
            await self._live()
        except Superseded:
            self._record.change(superseded=True)
            await self._clean_up_superseded()
        finally:
            await self._log.abandon()
            await self._platform.close()

    async def _live(self) -> None:
        state = self._record.state
        if state.phase == AttemptPhase.ENDED and not state.launched and self._log.empty:
            await self._finish_up()
            return
        if state.ending is None and not state.launched:
            await self._prepare_and_launch()
        else:
            await self._open_log(await self._secrets_again())
            if state.ending is None:
                _LOG.info("attempt_adopted", attempt=str(self._record.attempt_id))
                self._log.say("The worker's agent was restarted; the run goes on.")
        if self._record.state.ending is None:
            await self._watch_run()
        await self._end_run()
        if self._record.state.phase != AttemptPhase.ENDED:
            await self._collect_and_tell()
        await self._finish_up()

    async def _prepare_and_launch(self) -> None:
        """Up to the launch; a failure or a stop on the way is the attempt's ending."""
        if self._log.empty:
            document = self._document
            self._log.say(
                f"Execution #{document.counter}, attempt {document.number}, on worker {self._services.hostname} "
                f"({self._services.runtime.name} runtime)"
            )
        self._record.change(phase=AttemptPhase.PREPARING)
        self._services.wake()
        try:
            spec = await self._unless_stopped(self._prepare())
            self._record.change(phase=AttemptPhase.RUNNING, launched=True)
            await self._launch(spec)
        except _Stopped:
            state = self._record.state
            self._log.say("Stopped before the command was started.")
            self._decide(
                Ending(reason=state.stop_reason, code=STOPPED_CODE, message="Stopped before it ran.", at=self._now())
            )
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the platform must learn that the attempt failed
            failure = failure_of(error)
            if failure.reason == EndReason.INTERNAL and not isinstance(error, AttemptFailure):
                _LOG.exception("attempt_failed", attempt=str(self._record.attempt_id))
            self._log.say(f"The execution could not be started: {failure.message}")
            self._decide(
                Ending(
                    reason=failure.reason, message=failure.message, retryable=failure.retryable, at=self._now()
                )
            )
        if self._record.state.ending is not None:
            await self._open_log_if_closed()

    async def _prepare(self) -> ShimSpec:
        patience = self._services.settings.patience_seconds
        materials = await ask_materials(
            self._platform, ("code", "inputs", "secrets", "registry", "api"), patience, self._trouble("platform")
        )
        secrets = {secret.name: secret.value for secret in materials.secrets}
        keep_secrets(self._record.layout, secrets)
        await self._open_log(list(secrets.values()))
        return await Preparation(self._record, self._services, self._platform, self._log.say).run(materials)

    async def _launch(self, spec: ShimSpec) -> None:
        self._log.say("Starting the command")
        launcher = self._services.runtime.launcher
        if launcher is not None:
            launcher(self._record.layout, spec)
        else:
            await self._services.zygote.start(self._record.layout, spec)
        self._services.wake()

    async def _watch_run(self) -> None:
        """While the run goes on: live outputs, stops, limits of the agent's own; then its ending."""
        handle = await self._handle()
        helpers = [
            asyncio.create_task(self._collector().watch(), name="live-outputs"),
            asyncio.create_task(self._deliver_stops(handle), name="stops"),
        ]
        try:
            while handle.exit_record() is None:
                self._note_user_code()
                self._raise_refusals(helpers)
                if not handle.alive() and handle.exit_record() is None:
                    handle = await self._recover(handle)
                    if handle is None:
                        return
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            for helper in helpers:
                await cancel_and_wait(helper)
        self._note_user_code()
        record = handle.exit_record()
        if record is not None:
            self._decide(ending_of_run(record, self._record.state))
            self._log.say(_last_words(self._record.state.ending, record.code))

    async def _handle(self) -> RunHandle:
        layout = self._record.layout
        if self._services.runtime.launcher is None:
            return ShimHandle(layout)
        return _Launched(self._services, self._record)
