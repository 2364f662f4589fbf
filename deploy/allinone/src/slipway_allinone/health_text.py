"""The health of a running platform as lines on a terminal, the worst first."""

from rich.console import Console
from rich.markup import escape

from slipway_schemas.health import ConsumerHealth, PlatformHealth, ProblemLevel, WorkerState

_GIB = 1024**3


def print_health(health: PlatformHealth, console: Console) -> None:
    """What is wrong, then what there is."""
    for problem in health.problems:
        mark = "[red]xx[/]" if problem.level is ProblemLevel.BAD else "[yellow]!![/]"
        console.print(f"{mark}  {escape(' '.join(text for text in (problem.what, problem.why, problem.fix) if text))}")
    if not health.problems:
        console.print("[green]ok[/]  Nothing is wrong or behind")
    for line in _lines(health):
        console.print(f"    {escape(line)}")


def _lines(health: PlatformHealth) -> list[str]:
    ready = [one.name for one in health.services if one.ready]
    durable = "unknown" if health.logs_not_durable is None else f"{health.logs_not_durable} attempts"
    lines = [
        f"services ready: {', '.join(ready) or 'none'}",
        *(
            _consumer(service.name, one)
            for service in health.services
            if service.health
            for one in service.health.consumers
            if one.behind or one.waiting or one.parked
        ),
        *(
            f"environment {one.slug}: {one.queued} queued, {one.waiting} not queued yet, {one.running} running, "
            f"{one.workers} workers take work"
            for one in health.environments
        ),
        *(_worker(one) for one in health.workers),
        f"logs not durable yet: {durable}; uploads waiting: {health.uploads_waiting}",
    ]
    if health.disk_free_bytes is not None and health.disk_total_bytes is not None:
        free, total = health.disk_free_bytes / _GIB, health.disk_total_bytes / _GIB
        lines.append(f"disk of the object store: {free:.1f} GiB free of {total:.1f} GiB")
    return lines


def _consumer(service: str, one: ConsumerHealth) -> str:
    return f"events: {service} is {one.behind} behind {one.publisher}, {one.waiting} tried again, {one.parked} given up"


def _worker(one: WorkerState) -> str:
    skew = "unknown" if one.clock_skew_seconds is None else f"{one.clock_skew_seconds:+.2f} s"
    return (
        f"worker {one.hostname} ({one.environment}): {one.state}, {one.attempts} attempts, "
        f"{one.free.get('slots', '?')} of {one.capacity.get('slots', '?')} slots free, "
        f"version {one.version}, clock {skew}"
    )
