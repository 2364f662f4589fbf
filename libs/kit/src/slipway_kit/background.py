"""Background tasks: run for as long as the service, restarted with back-off when they fail."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from slipway_kit.logging import get_logger
from slipway_kit.metrics import ServiceMetrics

_LOG = get_logger()
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0  # after an outage of a neighbour, however long, work goes on within seconds
_HEALTHY_AFTER = 10.0


@dataclass(frozen=True)
class BackgroundTask:
    """Work that goes on beside requests. `run` may end by itself; when it raises it is started again."""

    name: str
    run: Callable[[], Awaitable[None]]


async def keep_running(task: BackgroundTask, service: str, metrics: ServiceMetrics) -> None:
    """Run `task` until it ends or is cancelled; each failure is logged, counted, and waited after."""
    structlog.contextvars.bind_contextvars(service=service, task=task.name)
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        started_at = loop.time()
        try:
            await task.run()
        except Exception:  # noqa: BLE001 - whatever it raises, the task is started again
            if loop.time() - started_at >= _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            metrics.background_failures.labels(task.name).inc()
            _LOG.exception("background_task_failed", restart_seconds=pause)
        else:
            return
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, _LONGEST_PAUSE)
