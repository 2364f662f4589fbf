"""What is wrong or behind, in words: pure rules over what was collected."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from slipway_schemas.health import (
    ConsumerHealth,
    EnvironmentState,
    HealthProblem,
    LoopHealth,
    PlatformHealth,
    ProblemLevel,
    ServiceState,
    WorkerState,
)

LOOP_PATIENCE = timedelta(minutes=1)
QUEUE_PATIENCE = timedelta(minutes=1)
UPLOAD_PATIENCE = timedelta(hours=6)
CONSUMER_BEHIND = 1000
WARNING_SKEW_SECONDS = 5.0
BAD_SKEW_SECONDS = 60.0
WARNING_FREE_BYTES = 5 * 1024**3
BAD_FREE_BYTES = 1024**3
LOGS_NOT_DURABLE = 1000
_BAD, _WARNING = ProblemLevel.BAD, ProblemLevel.WARNING
_ORDER: Mapping[ProblemLevel, int] = {_BAD: 0, _WARNING: 1}


def problems_of(found: PlatformHealth) -> tuple[HealthProblem, ...]:
    """Everything that is wrong or behind, the worst first."""
    problems = [
        *(_not_ready(service) for service in found.services if not service.ready),
        *(problem for service in found.services for problem in _of_service(service, found.at)),
        *(problem for environment in found.environments for problem in _of_environment(environment, found.at)),
        *(problem for worker in found.workers for problem in _of_worker(worker, found.version)),
        *_of_storage(found),
    ]
    return tuple(sorted(problems, key=lambda problem: _ORDER[problem.level]))


def _not_ready(service: ServiceState) -> HealthProblem:
    return HealthProblem(
        level=_BAD,
        what=f"Service {service.name} is not ready.",
        why=service.reason,
        fix="Read its log; start it again if it does not run.",
    )


def _of_service(service: ServiceState, now: datetime) -> Iterator[HealthProblem]:
    if service.health is None:
        return
    skew = service.health.database_skew_seconds
    if skew is not None and abs(skew) >= WARNING_SKEW_SECONDS:
        yield _skewed(f"the machine of service {service.name}", skew)
    for loop in service.health.loops:
        yield from _of_loop(service.name, loop, now)
    for consumer in service.health.consumers:
        yield from _of_consumer(service.name, consumer)


def _of_loop(service: str, loop: LoopHealth, now: datetime) -> Iterator[HealthProblem]:
    if loop.failed_at is not None and (loop.ran_at is None or loop.ran_at < loop.failed_at):
        yield HealthProblem(
            level=_BAD,
            what=f"The loop {loop.name} of service {service} fails.",
            why=f"{loop.error}, {loop.failures} times since the service started.",
            fix=f"The log of {service} has the whole error under loop_failed.",
        )
    elif loop.due_since is not None and now - (loop.ran_at or loop.due_since) > LOOP_PATIENCE:
        yield HealthProblem(
            level=_BAD,
            what=f"The loop {loop.name} of service {service} is behind: rows wait since {loop.due_since:%H:%M:%S} UTC.",
            why="It has not come to an end since then.",
            fix=f"Look at the load of Postgres, and into the log of {service}.",
        )


def _of_consumer(service: str, consumer: ConsumerHealth) -> Iterator[HealthProblem]:
    name = f"{service} ({consumer.name}, events of {consumer.publisher})"
    if consumer.parked:
        yield HealthProblem(
            level=_BAD,
            what=f"Events that were given up by {name}: {consumer.parked}.",
            why=consumer.error,
            fix=f"Mend the cause, then have them tried again: they lie in the table dead_letter of schema {service}.",
        )
    if consumer.waiting:
        yield HealthProblem(
            level=_WARNING,
            what=f"Events that are being tried again by {name}: {consumer.waiting}.",
            why=consumer.error,
            fix="Nothing, if it goes away by itself; after ten tries they are given up.",
        )
    if consumer.behind >= CONSUMER_BEHIND:
        yield HealthProblem(
            level=_WARNING,
            what=f"Events that {name} has still to handle: {consumer.behind}.",
            why="Events come faster than they are handled, or the service was away.",
            fix="It catches up by itself; if it does not, look into its log.",
        )


def _of_environment(one: EnvironmentState, now: datetime) -> Iterator[HealthProblem]:
    if not one.queued:
        return
    waiting = f"{one.queued} execution{'s wait' if one.queued > 1 else ' waits'} in environment {one.name}"
    if not one.enabled:
        yield HealthProblem(
            level=_WARNING, what=f"{waiting}.", why="It is disabled.", fix="Enable it, or stop the executions."
        )
    elif not one.workers and one.oldest_queued_at is not None and now - one.oldest_queued_at > QUEUE_PATIENCE:
        yield HealthProblem(
            level=_BAD,
            what=f"{waiting}, the oldest since {one.oldest_queued_at:%Y-%m-%d %H:%M} UTC.",
            why="No worker of it is connected and takes work.",
            fix="Start a worker with a group token of this environment.",
        )


def _of_worker(worker: WorkerState, version: str) -> Iterator[HealthProblem]:
    name = f"Worker {worker.hostname} of {worker.environment}"
    if worker.state == "unreachable":
        if worker.attempts:
            yield HealthProblem(
                level=_BAD,
                what=f"{name} is not heard of, and had runs: {worker.attempts}.",
                why=f"Its last sign of life was at {worker.last_seen_at:%Y-%m-%d %H:%M:%S} UTC.",
                fix="Look at the machine and its network. Its runs may go on; they are taken back when it returns.",
            )
        return
    if worker.refusal:
        yield HealthProblem(
            level=_WARNING,
            what=f"{name} takes nothing new.",
            why=worker.refusal,
            fix="It takes work again by itself when that is over.",
        )
    if worker.version != version:
        yield HealthProblem(
            level=_WARNING,
            what=f"{name} has version {worker.version}, the platform {version}.",
            fix="Update the worker; its runs go on meanwhile.",
        )
    if worker.clock_skew_seconds is not None and abs(worker.clock_skew_seconds) >= WARNING_SKEW_SECONDS:
        yield _skewed(name[0].lower() + name[1:], worker.clock_skew_seconds)


def _of_storage(found: PlatformHealth) -> Iterator[HealthProblem]:
    free = found.disk_free_bytes
    if free is not None and free < WARNING_FREE_BYTES:
        yield HealthProblem(
            level=_BAD if free < BAD_FREE_BYTES else _WARNING,
            what=f"The disk of the object store has {free / 1024**3:.1f} GiB left.",
            fix="Purge outputs that nobody needs, or enlarge the disk.",
        )
    if found.oldest_upload_at is not None and found.at - found.oldest_upload_at > UPLOAD_PATIENCE:
        yield HealthProblem(
            level=_WARNING,
            what=f"{found.uploads_waiting} uploads are not finished, "
            f"the oldest since {found.oldest_upload_at:%Y-%m-%d %H:%M} UTC.",
            why="A worker that cannot finish an upload keeps the files and tries again.",
            fix="Look at the store, and at the executions whose detail says that they wait for it.",
        )
    if found.logs_not_durable is not None and found.logs_not_durable >= LOGS_NOT_DURABLE:
        yield HealthProblem(
            level=_WARNING,
            what=f"The logs of {found.logs_not_durable} attempts have lines that are not in the log store yet.",
            why="The archive is behind, or the store does not take them.",
            fix="Nothing is lost meanwhile: workers keep them. Look into the log of the service logs.",
        )


def _skewed(whose: str, seconds: float) -> HealthProblem:
    ahead = "ahead of" if seconds > 0 else "behind"
    return HealthProblem(
        level=_BAD if abs(seconds) >= BAD_SKEW_SECONDS else _WARNING,
        what=f"The clock of {whose} is {abs(seconds):.0f} s {ahead} the database's.",
        why="Times in logs and statuses are off by as much; signed addresses may be refused.",
        fix="Let the machine keep its time by NTP.",
    )
