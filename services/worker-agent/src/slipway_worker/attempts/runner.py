"""The linear script of one attempt. Every step can be taken up again by an agent that starts anew."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from slipway_kit.errors import Conflict
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_runtime.errors import ContainerError
from slipway_runtime.layout import ExitRecord, ShimSpec
from slipway_runtime.runtimes.protocol import RunHandle
from slipway_schemas.executions import Resources
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.workers import AttemptReport
from slipway_worker.attempts.findings import look
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
from slipway_worker.attempts.stopping import StopOrders, Stopped
from slipway_worker.machine.kernel import kernel_time_us
from slipway_worker.outputs.collecting import OutputCollector
from slipway_worker.outputs.ledger import UploadLedger
from slipway_worker.outputs.progress import UploadProgress
from slipway_worker.outputs.uploading import Uploader
from slipway_worker.shim.client import ShimHandle
from slipway_worker.spool.reading import NumberedRecord
from slipway_worker.usage.sampling import UsageSampler

_LOG = get_logger()
_OUTPUT_PATIENCE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
_SHIM_SECONDS: Final = 5.0
_USAGE_SECONDS: Final = 10.0
_LONGEST_ERROR: Final = 1000


class AttemptRunner:
    """Brings one attempt from its assignment to its end, or takes up where an earlier agent was."""

    def __init__(self, record: AttemptRecord, services: AttemptServices) -> None:
        self._record = record
        self._services = services
        assignment = record.state.assignment
        self._document = assignment.document
        self._details: dict[str, str] = {}
        self._answered = asyncio.Event()
        self._platform = AttemptPlatform(services.settings.server_url, record.attempt_id, assignment.token)
        self._log = AttemptLog(record.layout, self._platform, services.clock, self._trouble("log"))
        expression = self._document.spec.stop_condition
        self._condition = StopCondition(expression) if expression else None
        self._task: asyncio.Task[None] | None = None
        self._handle: RunHandle = ShimHandle(record.layout)
        self._stops = StopOrders(record, lambda: self._handle, self._log.say, services.clock, services.wake)
        self._collector_registered = 0
        self._usage = UsageSampler(
            str(record.attempt_id),
            record.layout,
            services.runtime,
            services.clock,
            services.settings.usage,
            self._platform.send_usage,
            record.state.gpus,
        )
        self._ledger = UploadLedger(record.layout.root / "outputs.jsonl")
        self._uploading = UploadProgress(services.clock, services.wake)

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
        detail = "; ".join(text for text in (*self._details.values(), self._uploading.sentence()) if text)
        return AttemptReport(
            attempt_id=self._record.attempt_id, phase=state.phase, detail=detail, stop_level=state.stop_level
        )

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends when nothing of the attempt is left on this machine."""
        self._task = asyncio.create_task(self._run(), name=f"attempt-{self._record.attempt_id}")
        return self._task

    @property
    def stops(self) -> StopOrders:
        """Takes orders that the attempt shall end."""
        return self._stops

    def facts_done(self, seqs: set[int]) -> None:
        """The scheduler has stored these facts."""
        self._record.facts_done(seqs)
        if self._record.state.phase == AttemptPhase.ENDED and not self._record.state.facts:
            self._answered.set()

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
        else:
            with suppress(Superseded):
                await self._log.close()
        await self._finish_up()

    async def _prepare_and_launch(self) -> None:
        """Up to the launch; a failure or a stop on the way is the attempt's ending."""
        if self._log.empty:
            document = self._document
            self._log.say(
                f"Execution #{document.counter}, attempt {document.number}, on worker {self._services.hostname} "
                f"({self._services.runtime.name} runtime)"
            )
        self._record.enter(AttemptPhase.PREPARING, self._now())
        self._services.wake()
        try:
            spec = await self._stops.unless_ordered(self._prepare())
            self._record.enter(AttemptPhase.RUNNING, self._now(), launched=True, launched_us=kernel_time_us())
            await self._launch(spec)
        except Stopped:
            self._record.change(stop_level=self._stops.wanted)
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
            evidence = {
                "runtime": self._services.runtime.name,
                "failed_in": self._record.state.phase.value,
                "error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR],
            }
            self._decide(
                Ending(
                    reason=failure.reason,
                    message=failure.message,
                    retryable=failure.retryable,
                    evidence=evidence,
                    at=self._now(),
                )
            )
        if self._record.state.ending is not None:
            await self._open_log_anyway()

    async def _open_log_anyway(self) -> None:
        """Have the log open also when the attempt ended before its secrets were known: nothing was run then."""
        if not self._log.is_open:
            await self._open_log([])

    async def _prepare(self) -> ShimSpec:
        patience = self._services.settings.patience_seconds
        materials = await ask_materials(
            self._platform, ("code", "inputs", "secrets", "registry", "api"), patience, self._trouble("platform")
        )
        secrets = {secret.name: secret.value for secret in materials.secrets}
        keep_secrets(self._record.layout, secrets)
        await self._open_log(list(secrets.values()))
        try:
            return await Preparation(self._record, self._services, self._platform, self._log.say, self._progress).run(
                materials
            )
        finally:
            self._progress("")

    async def _launch(self, spec: ShimSpec) -> None:
        self._log.say("Starting the command")
        launcher = self._services.runtime.launcher
        if launcher is not None:
            self._handle = launcher(self._record.layout, spec)
            self._tell_user_code(self._now())
        else:
            await self._services.zygote.start(self._record.layout, spec)
        self._services.wake()

    async def _watch_run(self) -> None:
        """While the run goes on: live outputs, stops, the log's refusals; then its ending."""
        helpers = [
            asyncio.create_task(self._collector().watch(), name="live-outputs"),
            asyncio.create_task(self._stops.deliver(), name="stops"),
            asyncio.create_task(self._usage.run(), name="usage"),
        ]
        try:
            while (record := self._handle.exit_record()) is None:
                self._note_user_code()
                self._raise_refusals([*helpers, self._log.sending])
                if not self._handle.alive() and not await self._recover():
                    return
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            for helper in helpers:
                await cancel_and_wait(helper)
        self._note_user_code()
        ending = await self._judge(record)
        self._decide(ending)
        await self._log.output_read(_OUTPUT_PATIENCE_SECONDS)
        self._log.say(f"Exit code {record.code}. {ending.message}")

    async def _judge(self, record: ExitRecord) -> Ending:
        """Look at what is left of the run, and decide why it ended."""
        services, state = self._services, self._record.state
        findings = await look(
            record,
            self._record.layout,
            services.runtime,
            self._usage,
            services.disk,
            self._document.spec.resources.memory_max_bytes or None,
            state.launched_us,
        )
        return ending_of_run(record, state, findings, services.runtime.name)

    async def _recover(self) -> bool:
        """Nobody looks after the run: wait for a shim that is starting, start one anew, or give the run up."""
        deadline = asyncio.get_running_loop().time() + _SHIM_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._handle.alive() or self._handle.exit_record() is not None:
                return True
            await asyncio.sleep(_POLL_SECONDS)
        layout = self._record.layout
        found = await self._services.runtime.inspect(str(self._record.attempt_id))
        if found.exists and self._services.runtime.name == "docker":
            _LOG.warning("shim_started_again", attempt=str(self._record.attempt_id))
            await self._services.zygote.start(layout, ShimSpec.read(layout.spec_file))
            return True
        text = "The run was lost on the worker: its processes are gone and nobody saw their end."
        self._log.say(text)
        self._decide(Ending(reason=EndReason.WORKER_LOST, message=text, retryable=True, at=self._now()))
        return False

    def _note_user_code(self) -> None:
        if self._record.state.user_code_started:
            return
        try:
            began = self._record.layout.started_mark.stat().st_mtime
        except FileNotFoundError:
            return
        self._tell_user_code(datetime.fromtimestamp(began, UTC))

    def _tell_user_code(self, at: datetime) -> None:
        self._record.change(user_code_started=True)
        self._record.add_fact("user_code_started", at)
        self._services.wake()

    async def _end_run(self) -> None:
        """The run is over: give back what it used of the machine."""
        if self._record.state.slot_free:
            return
        try:
            await self._services.runtime.cleanup(str(self._record.attempt_id))
        except ContainerError as error:
            _LOG.warning("run_not_cleaned_up", attempt=str(self._record.attempt_id), error=str(error))
        self._record.change(slot_free=True)
        self._services.wake()

    async def _collect_and_tell(self) -> None:
        """The barrier: outputs registered, every line taken; then the fact that ends the attempt."""
        ending = self._ending()
        outputs = 0
        if self._record.state.launched:
            self._record.enter(AttemptPhase.UPLOADING, self._now())
            self._services.wake()
            try:
                outputs = await self._collect_outputs()
            except Stopped:
                outputs = self._collector_registered
                text = "The upload of the outputs was given up: the run was stopped again."
                self._log.say(text)
                ending = Ending(reason=EndReason.UPLOAD_GIVEN_UP, message=text, at=self._now())
                self._record.change(stop_level=self._stops.wanted, ending=ending)
        await self._log.close()
        totals = {
            "last_line": self._log.lines,
            "outputs": outputs,
            "metadata_lines": self._log.records,
            "reason": ending.reason,
            "message": ending.message,
            "evidence": {
                **ending.evidence,
                "phases": {phase.value: at.isoformat() for phase, at in self._record.state.phase_times.items()},
                "last_lines": self._log.last_lines(),
            },
        }
        if ending.code is not None:
            self._record.add_fact("exited", ending.at, code=ending.code, **totals)
        else:
            self._record.add_fact("failed", ending.at, retryable=ending.retryable, **totals)
        self._record.change(phase=AttemptPhase.ENDED)
        self._services.wake()

    async def _send_usage(self) -> None:
        """The last samples, while there is something else to wait for: the execution's end does not wait for them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_USAGE_SECONDS):
                await self._usage.send()

    async def _collect_outputs(self) -> int:
        collector = self._collector()
        collecting = asyncio.create_task(collector.collect(), name="outputs")
        giving_up = asyncio.create_task(self._stops.until_upload_is_given_up(), name="giving-up")
        try:
            await asyncio.wait({collecting, giving_up, self._log.sending}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_refusals([self._log.sending])
            if not collecting.done():
                self._collector_registered = collector.registered
                raise Stopped
            return collecting.result()
        finally:
            await cancel_and_wait(collecting)
            await cancel_and_wait(giving_up)

    async def _finish_up(self) -> None:
        """Wait until the scheduler has the facts and the log store the log; then nothing is kept here."""
        await self._send_usage()
        if self._record.state.facts:
            await self._answered.wait()
        await self._log.until_durable()
        await asyncio.to_thread(self._record.remove)

    async def _clean_up_superseded(self) -> None:
        await self._log.abandon()
        await self._stops.kill()
        with suppress(ContainerError):
            await self._services.runtime.cleanup(str(self._record.attempt_id))
        await asyncio.to_thread(self._record.remove)
        _LOG.info("attempt_superseded", attempt=str(self._record.attempt_id))

    async def _open_log(self, secrets: Sequence[str]) -> None:
        layout = self._record.layout

        def raw_complete() -> bool:
            return self._record.state.ending is not None or layout.exit_file.exists()

        await self._log.open(secrets, raw_complete, self._document.environment.log_limit_bytes, self._check_condition)

    async def _secrets_again(self) -> list[str]:
        """Secret values after a restart of the agent: from memory, or asked for until they are given."""
        kept = kept_secrets(self._record.layout)
        if kept is not None or not self._record.state.launched:
            return list((kept or {}).values())
        materials = await ask_materials(self._platform, ("secrets",), float("inf"), self._trouble("platform"))
        return [secret.value for secret in materials.secrets]

    def _check_condition(self, records: Sequence[NumberedRecord]) -> None:
        if self._condition is None:
            return
        for numbered in records:
            if self._condition.update(numbered.record.values) and self._stops.wanted == StopLevel.NONE:
                self._stops.order(StopLevel.GRACEFUL, EndReason.STOP_CONDITION)

    def _collector(self) -> OutputCollector:
        root = self._record.layout.valohai / "outputs"
        uploader = Uploader(self._services.transfers, self._platform, root, self._uploading)
        return OutputCollector(
            root, self._ledger, uploader, self._platform, say=self._log.say, progress=self._uploading
        )

    def _trouble(self, source: str) -> Callable[[str], None]:
        def tell(text: str) -> None:
            if self._details.get(source, "") != text:
                self._details[source] = text
                self._services.wake()

        return tell

    def _progress(self, text: str) -> None:
        """Shown with the next sync: progress is not worth one of its own."""
        self._details["progress"] = text

    def _decide(self, ending: Ending) -> None:
        self._record.change(ending=ending)

    def _ending(self) -> Ending:
        ending = self._record.state.ending
        if ending is None:
            raise RuntimeError("the attempt has no ending yet")
        return ending

    @staticmethod
    def _raise_refusals(tasks: Sequence[asyncio.Task[None]]) -> None:
        """Raise what a helper failed with; a closed log means that the attempt is no longer this worker's."""
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, Conflict):
                    raise Superseded(error.message) from error
                raise error

    def _now(self) -> datetime:
        return self._services.clock.now()
