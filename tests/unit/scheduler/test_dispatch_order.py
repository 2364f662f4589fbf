from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from slipway_scheduler.dispatch.domain import Candidate, Demand, Room, Scene, WorkerRoom, blockers, place
from slipway_schemas.executions import BlockerKind

START = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3


def candidate(second: int, *, owner: int = 1, priority: int = 0, **demand: float) -> Candidate:
    return Candidate(
        UUID(int=second),
        priority,
        owner,
        START + timedelta(seconds=second),
        Demand(**demand),  # type: ignore[arg-type]
    )


def worker(slots: int, *, memory: int = 8, cpus: float = 8, gpus: int = 0, free: int | None = None) -> WorkerRoom:
    total = Room(slots, cpus, memory * GIB, gpus)
    return WorkerRoom(uuid4(), total, Room(slots if free is None else free, cpus, memory * GIB, gpus))


def order(candidates: list[Candidate], workers: list[WorkerRoom], load: dict[int, int] | None = None) -> list[int]:
    return [one.candidate.execution_id.int for one in place(candidates, workers, load or {})]


def test_priority_goes_before_time() -> None:
    assert order([candidate(1), candidate(2, priority=5), candidate(3)], [worker(3)]) == [2, 1, 3]


def test_owners_take_turns() -> None:
    mine = [candidate(second) for second in range(1, 6)]
    assert order([*mine, candidate(9, owner=2), candidate(10, owner=3)], [worker(5)]) == [1, 9, 10, 2, 3]


def test_the_owner_with_the_least_load_goes_first() -> None:
    assert order([candidate(1), candidate(2, owner=2)], [worker(2)], {1: 4, 2: 1}) == [2, 1]


def test_no_worker_gets_more_than_fits() -> None:
    waiting = [candidate(second, memory_bytes=5 * GIB) for second in range(1, 5)]
    small, large = worker(4, memory=8), worker(4, memory=16)
    placed = place(waiting, [small, large], {})
    assert sorted(one.worker_id == large.worker_id for one in placed) == [False, True, True, True]


def test_a_large_run_is_not_starved_by_small_ones_behind_it() -> None:
    busy = WorkerRoom(uuid4(), Room(4, 8, 32 * GIB, 0), Room(2, 8, 8 * GIB, 0))
    waiting = [candidate(1, memory_bytes=30 * GIB), candidate(2, memory_bytes=GIB)]
    assert order(waiting, [busy]) == []
    assert order(waiting, [busy, worker(1, memory=2)]) == [2]


def test_gpus_are_spared_for_those_who_ask() -> None:
    plain, gpu = worker(1), worker(4, gpus=1)
    placed = place([candidate(1), candidate(2, gpus=1)], [gpu, plain], {})
    assert [one.worker_id for one in placed] == [plain.worker_id, gpu.worker_id]


def test_what_failed_on_a_worker_goes_to_another_one() -> None:
    bad, good = worker(4), worker(1)
    (placed,) = place([replace(candidate(1), avoid=(bad.worker_id,))], [bad, good], {})
    assert placed.worker_id == good.worker_id
    busy = replace(good, free=replace(good.free, slots=0))
    waiting = [replace(candidate(1), avoid=(bad.worker_id,)), candidate(2)]
    assert [one.candidate.execution_id.int for one in place(waiting, [bad, busy], {})] == [2]


def test_the_worker_that_failed_longest_ago_is_forgiven_first() -> None:
    first, second = worker(1), worker(4)
    failed = replace(candidate(1), avoid=(first.worker_id, second.worker_id))
    (placed,) = place([failed], [first, second], {})
    assert placed.worker_id == first.worker_id
    (placed,) = place([failed], [second], {})
    assert placed.worker_id == second.worker_id
    too_small = worker(1, memory=1)
    (placed,) = place([replace(candidate(1, memory_bytes=2 * GIB), avoid=(second.worker_id,))], [second, too_small], {})
    assert placed.worker_id == second.worker_id


def scene(**changes: object) -> Scene:
    values: dict[str, object] = {
        "environment": "big",
        "enabled": True,
        "status": "queued",
        "code_missing": False,
        "assigned": False,
        "demand": Demand(),
        "workers": [worker(2)],
        "position": 1,
        "quota": 0,
        "unfinished_of_user": 0,
    }
    return Scene(**(values | changes))  # type: ignore[arg-type]


def test_what_goes_next_has_no_blocker() -> None:
    assert blockers(scene()) == ()
    assert blockers(scene(assigned=True, workers=[])) == ()
    assert blockers(scene(status="started", workers=[])) == ()


def test_blockers_say_what_is_missing() -> None:
    def only(**changes: object) -> tuple[BlockerKind, str]:
        (found,) = blockers(scene(**changes))
        return found.kind, found.message

    assert only(enabled=False) == (BlockerKind.ENVIRONMENT_DISABLED, "Environment big is disabled.")
    assert only(workers=[]) == (BlockerKind.NO_WORKER, "No worker is connected to environment big.")
    assert only(workers=[worker(2, free=0)]) == (BlockerKind.NO_FREE_SLOT, "All 2 slots of environment big are busy.")
    kind, message = only(demand=Demand(memory_bytes=32 * GIB, gpus=1))
    assert kind is BlockerKind.RESOURCES
    assert "needs 32 GiB of memory but the largest worker has 8 GiB" in message
    assert "needs 1 GPU but the largest worker has none" in message
    kind, message = only(position=3)
    assert (kind, message) == (BlockerKind.QUEUE, "2 executions are before it in environment big.")
    kind, message = only(status="created", quota=2, unfinished_of_user=2)
    assert kind is BlockerKind.QUOTA
    assert "its limit is 2 per user" in message
    assert only(status="created", code_missing=True)[0] is BlockerKind.CODE_SNAPSHOT
