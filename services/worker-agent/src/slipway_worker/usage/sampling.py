"""Samples what one run uses. Nothing here may slow a run or end its attempt: what fails is logged and left out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from slipway_kit.clock import Clock
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_runtime.layout import AttemptLayout
from slipway_runtime.runtimes.protocol import ContainerRuntime, RunUsage
from slipway_schemas.usage import GpuUse, UsageAnswer, UsageBatch, UsageSample
from slipway_worker.machine.disk import bytes_below
from slipway_worker.settings import UsageSettings
from slipway_worker.usage.gpus import gpu_use

_LOG = get_logger()
_MEASURE_SECONDS: Final = 5.0
_MOST_FILES: Final = 20_000
_BATCH: Final = 100
_KEPT: Final = 1000
"""Samples kept while the log service is away; the oldest are given up first."""

Send = Callable[[UsageBatch], Awaitable[UsageAnswer]]


class UsageSampler:
    """Measures one attempt about every ten seconds, and sends what has gathered in batches."""

    def __init__(
        self,
        attempt_id: str,
        layout: AttemptLayout,
        runtime: ContainerRuntime,
        clock: Clock,
        settings: UsageSettings,
        send: Send,
        gpus: tuple[int, ...] = (),
    ) -> None:
        self._attempt_id = attempt_id
        self._layout = layout
        self._runtime = runtime
        self._clock = clock
        self._settings = settings
        self._send = send
        self._gpus = gpus
        self._waiting: list[UsageSample] = []
        self._last: tuple[float, float] | None = None
        """Monotonic time and CPU time of the sample before."""
        self._last_us = 0
        self._peak = 0
        self._sent_at: float | None = None
        self.latest: RunUsage | None = None
        """The newest measurement."""

    async def run(self) -> None:
        """Sample until cancelled."""
        await asyncio.sleep(self._settings.first_seconds)
        while True:
            await self.sample()
            # The first sample is sent at once, so that there is something to see of a short run too.
            if self._sent_at is None or time.monotonic() - self._sent_at >= self._settings.send_seconds:
                await self.send()
            await asyncio.sleep(self._settings.interval_seconds)

    async def sample(self) -> None:
        """Measure now."""
        try:
            async with asyncio.timeout(_MEASURE_SECONDS):
                used = await self._runtime.usage(self._attempt_id, self._layout)
                if used is not None:
                    self._keep(used, await self._disk(), await gpu_use(self._gpus))
        except Exception as error:  # noqa: BLE001 - telemetry must never endanger the run
            _LOG.warning("usage_not_measured", attempt=self._attempt_id, error=f"{type(error).__name__}: {error}")

    async def send(self) -> None:
        """Send what has gathered. What cannot be sent now is sent with the next batch."""
        self._sent_at = time.monotonic()
        try:
            while self._waiting:
                batch = self._waiting[:_BATCH]
                await self._send(UsageBatch(samples=tuple(batch)))
                del self._waiting[: len(batch)]
        except SlipwayError as error:
            _LOG.info("usage_not_sent", attempt=self._attempt_id, error=error.message)
            del self._waiting[:-_KEPT]
        except Exception as error:  # noqa: BLE001 - telemetry must never endanger the run
            _LOG.warning("usage_not_sent", attempt=self._attempt_id, error=f"{type(error).__name__}: {error}")
            self._waiting.clear()

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that was ever seen in use."""
        return self._peak or None

    async def _disk(self) -> int | None:
        return await asyncio.to_thread(
            bytes_below, (self._layout.valohai, self._layout.scratch, self._layout.spool), _MOST_FILES
        )

    def _keep(self, used: RunUsage, disk: int | None, gpus: tuple[GpuUse, ...]) -> None:
        now = time.monotonic()
        cpus = None
        if used.cpu_seconds is not None:
            if self._last is not None and now > self._last[0]:
                cpus = max(0.0, used.cpu_seconds - self._last[1]) / (now - self._last[0])
            self._last = (now, used.cpu_seconds)
        self._peak = max(self._peak, used.memory_peak_bytes or 0, used.memory_bytes or 0)
        # The wall clock may be set back; a series may not.
        self._last_us = max(self._last_us + 1, int(self._clock.now().timestamp() * 1_000_000))
        self.latest = used
        self._waiting.append(
            UsageSample(
                time_us=self._last_us,
                cpu_seconds=used.cpu_seconds,
                cpus=None if cpus is None else round(cpus, 3),
                memory_bytes=used.memory_bytes,
                memory_peak_bytes=self._peak or None,
                memory_limit_bytes=used.memory_limit_bytes,
                disk_bytes=disk,
                processes=used.processes,
                gpus=gpus,
            )
        )
