"""What is said of an execution that waits: workers that refuse, workers that are avoided, and when it will start."""

from uuid import uuid4

import pytest

from slipway_scheduler.dispatch.domain import Demand, OtherWorker, Room, Scene, WorkerRoom, blockers, misfit
from slipway_scheduler.dispatch.estimate import Run, estimate_start, in_words
from slipway_schemas.executions import BlockerKind
from slipway_schemas.workers import Refusal

GIB = 1024**3
ROOM = Room(2, 8, 8 * GIB, 0)


def scene(**changes: object) -> Scene:
    values: dict[str, object] = {
        "environment": "big",
        "enabled": True,
        "status": "queued",
        "code_missing": False,
        "assigned": False,
        "demand": Demand(),
        "workers": [],
        "position": 1,
        "quota": 0,
        "unfinished_of_user": 0,
    }
    return Scene(**(values | changes))  # type: ignore[arg-type]


def other(name: str, refusal: Refusal | None, message: str = "") -> OtherWorker:
    return OtherWorker(uuid4(), name, refusal, message, "2026-01-01 00:00:00 UTC")


def test_an_environment_without_any_worker_says_that_the_size_is_unknown() -> None:
    (found,) = blockers(scene(ever_had_worker=False))
    assert found.kind is BlockerKind.NO_WORKER
    assert "never had one, so it is not known whether the step fits" in found.message


def test_workers_that_are_silent_or_refuse_are_named() -> None:
    (found,) = blockers(scene(others=[other("w1", None)]))
    assert "Last heard of: w1 (2026-01-01 00:00:00 UTC)" in found.message
    none, refusing = blockers(
        scene(
            others=[
                other("w1", Refusal.DRAINING),
                other("w2", Refusal.DISK, "1 GiB free of 100 GiB"),
                other("w3", Refusal.PREEMPTED, "EC2 takes this machine back at 08:22:00 UTC"),
            ]
        )
    )
    assert none.message == "No worker of environment big takes work now."
    assert refusing.kind is BlockerKind.WORKERS_REFUSE
    assert refusing.message == (
        "Connected, but taking nothing new: w1 (draining), w2 (1 GiB free of 100 GiB), "
        "w3 (EC2 takes this machine back at 08:22:00 UTC)."
    )
    many = blockers(scene(others=[other(f"w{n}", Refusal.DRAINING) for n in range(9)]))[1]
    assert many.message.endswith("w4 (draining) and 4 more.")


def test_refusing_workers_are_not_named_while_others_have_room() -> None:
    free = WorkerRoom(uuid4(), ROOM, ROOM)
    assert blockers(scene(workers=[free], others=[other("w1", Refusal.DRAINING)])) == ()
    busy = WorkerRoom(uuid4(), ROOM, Room(0, 8, 8 * GIB, 0))
    found = blockers(scene(workers=[busy], others=[other("w1", Refusal.DRAINING)]))
    assert [one.kind for one in found] == [BlockerKind.NO_FREE_SLOT, BlockerKind.WORKERS_REFUSE]


def test_a_worker_on_which_it_failed_is_named_as_the_reason() -> None:
    failed, busy = WorkerRoom(uuid4(), ROOM, ROOM), WorkerRoom(uuid4(), ROOM, Room(0, 8, 8 * GIB, 0))
    (found,) = blockers(scene(workers=[failed, busy], avoid=(failed.worker_id,)))
    assert found.kind is BlockerKind.WORKER_AVOIDED
    assert blockers(scene(workers=[failed], avoid=(failed.worker_id,))) == ()


def test_no_estimate_without_history_or_slots() -> None:
    assert estimate_start(1, 2, [], []) is None
    assert estimate_start(1, 0, [], [Run("a", 60)]) is None


def test_an_estimate_counts_what_runs_and_what_waits_before_it() -> None:
    finished = [Run("train", 600)] * 20 + [Run("train", 9999)] * 50
    running = [Run("train", 120), Run("train", 540)]
    first = estimate_start(1, 2, running, finished)
    assert first is not None
    assert (first.seconds, first.runs) == (60, 20)
    assert first.message == "It will start in about 60 seconds, going by the last 20 runs of this environment."
    second = estimate_start(2, 2, running, finished)
    assert second is not None
    assert second.seconds == 480
    assert "about 8 minutes" in second.message
    fourth = estimate_start(4, 2, running, finished)
    assert fourth is not None
    assert fourth.seconds == 480 + 600
    assert estimate_start(50_000, 2, running, finished) is not None


def test_each_step_has_its_own_history() -> None:
    finished = [Run("short", 10), Run("long", 1000)]
    assert [
        one.seconds if (one := estimate_start(1, 1, [Run(step, 5)], finished)) else None for step in ("short", "long")
    ] == [5, 995]


def test_a_run_that_is_older_than_all_before_it_is_given_as_long_again() -> None:
    found = estimate_start(1, 1, [Run("train", 700)], [Run("train", 600)])
    assert found is not None
    assert found.seconds == 700
    assert "going by the last run of" in found.message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "5 seconds"), (44, "45 seconds"), (720, "12 minutes"), (7300, "2 hours"), (200_000, "2 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_what_fits_no_known_worker_is_said_with_the_largest() -> None:
    demand = Demand(memory_bytes=32 * GIB)
    assert misfit(demand, []) is None
    assert misfit(demand, [ROOM, Room(1, 1, 64 * GIB, 0)]) is None
    assert misfit(demand, [ROOM]) == "needs 32 GiB of memory but the largest worker has 8 GiB"
    split = [Room(1, 16, GIB, 0), Room(1, 1, 64 * GIB, 0)]
    assert misfit(Demand(cpus=8, memory_bytes=32 * GIB), split) == "needs more at once than any single worker has"
