"""How the worker is run: one background task, and an internal app for health, readiness and metrics."""

from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_worker.context import WorkerContext, open_context
from slipway_worker.settings import WorkerSettings

SPEC: ServiceSpec[WorkerSettings, WorkerContext] = ServiceSpec(
    name="worker",
    settings=WorkerSettings,
    context=open_context,
    apps=lambda _context: Apps(),
    background=lambda context: [
        BackgroundTask("agent", context.agent.run),
        *([BackgroundTask("preemption", context.preemption.run)] if context.preemption else []),
    ],
    ready=lambda context: [
        ReadyCheck("runtime", context.check_runtime),
        ReadyCheck("scheduler", context.check_sync),
    ],
    metrics=lambda context: context.registry,
)
