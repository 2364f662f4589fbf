"""What is wrong is said in words, the worst first; what is well is not mentioned."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from slipway_gateway.operations.domain import problems_of
from slipway_schemas.health import (
    ConsumerHealth,
    EnvironmentState,
    LoopHealth,
    PlatformHealth,
    ProblemLevel,
    ServiceHealth,
    ServiceState,
    WorkerState,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=9)


def service(**more: Any) -> ServiceState:
    health = ServiceHealth(service="scheduler", version="1", at=NOW, **more)
    return ServiceState(name="scheduler", ready=True, health=health)


def environment(**more: Any) -> EnvironmentState:
    values = {"slug": "gpu", "name": "GPU", "enabled": True, "waiting": 0, "queued": 0, "running": 0, "workers": 1}
    return EnvironmentState.model_validate(values | more)


def worker(**more: Any) -> WorkerState:
    values = {
        "id": uuid4(),
        "hostname": "w1",
        "environment": "GPU",
        "state": "connected",
        "version": "1",
        "last_seen_at": NOW,
        "attempts": 0,
        "capacity": {},
        "free": {},
    }
    return WorkerState.model_validate(values | more)


def found(**more: Any) -> PlatformHealth:
    return PlatformHealth(at=NOW, version="1", **more)


def words(**more: Any) -> list[str]:
    return [f"{one.level.value}: {one.what}" for one in problems_of(found(**more))]


def test_what_is_well_is_not_mentioned() -> None:
    recent = NOW - timedelta(seconds=5)
    loop = LoopHealth(name="dispatch", ran_at=recent, failures=3, failed_at=LONG_AGO, due_since=LONG_AGO)
    consumer = ConsumerHealth(name="c", publisher="p", behind=10)
    gone = worker(state="unreachable", last_seen_at=LONG_AGO)
    assert (
        words(
            services=(service(loops=(loop,), consumers=(consumer,), database_skew_seconds=0.1),),
            environments=(environment(queued=5),),
            workers=(worker(clock_skew_seconds=-0.2), gone),
            disk_free_bytes=100 * 1024**3,
            logs_not_durable=3,
            oldest_upload_at=NOW,
        )
        == []
    )


def test_each_thing_that_is_wrong_has_words_and_the_worst_is_first() -> None:
    failing = LoopHealth(name="dispatch", ran_at=LONG_AGO, failed_at=NOW, failures=2, error="OSError")
    stuck = LoopHealth(name="promote", due_since=NOW - timedelta(minutes=2))
    consumer = ConsumerHealth(name="events", publisher="gateway", behind=5000, waiting=1, parked=2, error="KeyError")
    health = found(
        services=(
            ServiceState(name="logs", ready=False, reason="it did not answer in time"),
            service(loops=(failing, stuck), consumers=(consumer,), database_skew_seconds=90),
        ),
        environments=(
            environment(queued=3, workers=0, oldest_queued_at=LONG_AGO),
            environment(slug="off", name="Off", queued=1, enabled=False),
        ),
        workers=(
            worker(state="unreachable", attempts=2, last_seen_at=LONG_AGO),
            worker(refusal="EC2 takes this machine back.", version="0", clock_skew_seconds=-7),
        ),
        disk_free_bytes=10,
        uploads_waiting=4,
        oldest_upload_at=LONG_AGO,
        logs_not_durable=2000,
    )
    problems = problems_of(health)
    assert [one.what for one in problems if one.level is ProblemLevel.BAD] == [
        "Service logs is not ready.",
        "The clock of the machine of service scheduler is 90 s ahead of the database's.",
        "The loop dispatch of service scheduler fails.",
        "The loop promote of service scheduler is behind: rows wait since 11:58:00 UTC.",
        "Events that were given up by scheduler (events, events of gateway): 2.",
        "3 executions wait in environment GPU, the oldest since 2026-01-01 03:00 UTC.",
        "Worker w1 of GPU is not heard of, and had runs: 2.",
        "The disk of the object store has 0.0 GiB left.",
    ]
    assert [one.what for one in problems if one.level is ProblemLevel.WARNING] == [
        "Events that are being tried again by scheduler (events, events of gateway): 1.",
        "Events that scheduler (events, events of gateway) has still to handle: 5000.",
        "1 execution waits in environment Off.",
        "Worker w1 of GPU takes nothing new.",
        "Worker w1 of GPU has version 0, the platform 1.",
        "The clock of worker w1 of GPU is 7 s behind the database's.",
        "4 uploads are not finished, the oldest since 2026-01-01 03:00 UTC.",
        "The logs of 2000 attempts have lines that are not in the log store yet.",
    ]
    assert [one.level for one in problems] == sorted((one.level for one in problems), key=lambda level: level.value)
    assert all(one.fix for one in problems)
