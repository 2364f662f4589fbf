"""Judges a storm: what the clients saw, and the rows, against what the executions' parameters say."""

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from slipway_schemas.lifecycles import ExecutionStatus, is_legal
from tests.chaos.project import storm as program
from tests.chaos.support.clients import Clients, Json, Seen, accepted
from tests.chaos.support.plan import MACHINE
from tests.chaos.support.site import Site, containers_of, control_groups_of, memory_of
from tests.chaos.support.storm import Struck, Weather
from tests.e2e.support.platform import SLOTS

_AT_ONCE = 4
_CLEAN_SECONDS = 90.0
_EVENTS_SECONDS = 30.0
_MACHINE_REACH_SECONDS = 20.0
"""How long after a blow at the worker an attempt may still be lost by it: its lease, and the grace after an outage."""
_RANK = {"created": 0, "queued": 1, "started": 2, "stopping": 3}
_BEGAN = re.compile(r"began as \d+")

_TRANSITIONS = (
    "SELECT t.execution_id, t.before, t.after FROM transitions t JOIN executions e ON e.id = t.execution_id"
    " WHERE e.created_at >= $1 ORDER BY t.execution_id, t.position"
)
_ATTEMPTS = (
    "SELECT id, execution_id, number, created_at, ended_at FROM attempts WHERE created_at >= $1 ORDER BY created_at"
)
_LEFT_IN_ROWS = (
    "SELECT (SELECT count(*) FROM leases) AS leases, (SELECT count(*) FROM queue) AS queue,"
    " (SELECT count(*) FROM outbox WHERE position IS NULL) AS unplaced_events"
)
_CURSORS = (
    "SELECT consumer, publisher, position, (SELECT count(*) FROM dead_letter) AS dead,"
    " (SELECT max(position) FROM {publisher}_pub.event_v1) AS head FROM cursors WHERE publisher = '{publisher}'"
)
CONSUMERS = (("gateway", "scheduler"), ("logs", "scheduler"), ("scheduler", "gateway"))
"""Consuming schema and publisher."""


@dataclass
class Verdict:
    """What was found. `problems` is empty when everything holds; each begins with the rule that it breaks."""

    problems: list[str] = field(default_factory=list)
    executions: int = 0
    attempts: int = 0
    again: int = 0
    """Attempts beyond the first of an execution."""
    lost: int = 0
    doubled: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    takeovers: dict[str, float] = field(default_factory=dict)
    """Seconds from the answer of a part that was killed to the next dispatch, by what was killed and when."""

    def expect(self, truth: bool, rule: str, problem: str) -> None:
        """Note a problem unless `truth`."""
        if not truth:
            self.problems.append(f"{rule}: {problem}")


async def judge(site: Site, clients: Clients, weather: Weather) -> Verdict:
    """Apply all rules."""
    verdict = Verdict()
    await _nothing_is_left(site, verdict)
    transitions = await site.rows("scheduler", _TRANSITIONS, weather.began_at)
    attempts = await site.rows("scheduler", _ATTEMPTS, weather.began_at)
    seen = accepted(clients.seen)
    _one_end_each(verdict, clients, seen, transitions)
    _attempts_explained(verdict, attempts, weather)
    _dispatched_soon(verdict, attempts, weather)
    await _events_arrived(site, verdict)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(known: Seen) -> None:
        async with limit:
            await _what_it_left(verdict, clients, known)

    await asyncio.gather(*(one(known) for known in seen))
    ids = [str(row["id"]) for row in attempts]
    for left in (*control_groups_of(ids), *containers_of(ids), *memory_of(site.worker_home, ids)):
        verdict.problems.append(f"C5: {left} is left")
    return verdict


def _one_end_each(
    verdict: Verdict, clients: Clients, seen: Sequence[Seen], transitions: Sequence[Mapping[str, Any]]
) -> None:
    """C1, C2, C6: what was accepted has one true end, on a legal path, and no client saw it go backwards."""
    verdict.expect(not clients.faulty, "answers", f"{len(clients.faulty)}, the first: {clients.faulty[:3]}")
    verdict.expect(len(seen) == len(clients.seen), "C1", f"{len(clients.seen) - len(seen)} were never accepted")
    by_execution: dict[str, list[Mapping[str, Any]]] = {}
    for row in transitions:
        by_execution.setdefault(str(row["execution_id"]), []).append(row)
    verdict.executions = len(seen)
    known = {one.id for one in seen}
    for stranger in by_execution.keys() - known:
        verdict.doubled += 1
        verdict.problems.append(f"C1: execution {stranger} was never accepted")
    for one in seen:
        about = f"#{one.job.number} {one.id}"
        path = by_execution.get(one.id, [])
        ends = [row["after"] for row in path if ExecutionStatus(row["after"]).final]
        verdict.lost += not ends
        verdict.doubled += len(ends) > 1 or len(one.ids) > 1
        verdict.expect(len(ends) == 1, "C1", f"{about} has the ends {ends}")
        verdict.expect(len(one.ids) == 1, "C1", f"{about}: one key gave {one.ids}")
        final = one.statuses[-1][0] if one.statuses else "unseen"
        verdict.statuses[final] += 1
        verdict.expect(ends == [final], "C1", f"{about}: the rows say {ends}, the client saw {one.statuses}")
        truth = {one.job.true_status} | ({"stopped"} if one.stop_asked else set())
        verdict.expect(final in truth, "C1", f"{about} is {final}, and should be {truth}")
        before: str | None = None
        for row in path:
            legal = row["before"] == row["after"] or _legal(row["before"], row["after"])
            verdict.expect(legal, "C2", f"{about} went from {row['before']} to {row['after']}")
            verdict.expect(before in (None, row["before"]), "C2", f"{about}: {before} was followed by {row['before']}")
            before = row["after"]
        for (former, attempts), (later, more) in pairwise(one.statuses):
            forward = _RANK.get(later, 4) >= _RANK.get(former, 4) and former in _RANK
            again = former == "started" and later == "queued" and more >= attempts
            verdict.expect(forward or again, "C6", f"{about} was seen {former} and then {later}")


def _legal(before: str | None, after: str) -> bool:
    return before is None or is_legal(ExecutionStatus(before), ExecutionStatus(after))


def _attempts_explained(verdict: Verdict, attempts: Sequence[Mapping[str, Any]], weather: Weather) -> None:
    """Only a blow at the worker may cost an attempt; a killed service or server touches none."""
    verdict.attempts = len(attempts)
    numbers: dict[str, list[int]] = {}
    blows = [one.at for one in weather.struck if one.blow.victim in MACHINE]
    last: dict[str, Mapping[str, Any]] = {}
    for row in attempts:
        numbers.setdefault(str(row["execution_id"]), []).append(row["number"])
        former = last.get(str(row["execution_id"]))
        if former is not None:
            verdict.again += 1
            began, replaced = former["created_at"].timestamp(), row["created_at"].timestamp()
            explained = any(began - _MACHINE_REACH_SECONDS <= at <= replaced for at in blows)
            verdict.expect(explained, "C1", f"attempt {former['id']} was replaced, but nobody hit the worker")
        last[str(row["execution_id"])] = row
    for execution, found in numbers.items():
        verdict.expect(found == list(range(1, len(found) + 1)), "C2", f"{execution} has the attempts {found}")
    for struck in weather.struck:
        verdict.expect(not struck.touched, "C1", f"{struck.blow.victim} was hit, and that touched {struck.touched}")


def _dispatched_soon(verdict: Verdict, attempts: Sequence[Mapping[str, Any]], weather: Weather) -> None:
    """How long after it answers again something moves, a start or an end, and a free slot of the worker is filled.

    Only where no other blow came between.
    """
    dispatched = sorted(row["created_at"].timestamp() for row in attempts)
    ended = sorted(row["ended_at"].timestamp() for row in attempts if row["ended_at"] is not None)
    for struck in weather.struck:
        back_at = struck.back_at
        if struck.blow.victim in MACHINE or not back_at:
            continue
        following = next((at for at in dispatched if at >= back_at), None)
        if following is None or _disturbed(struck, following, weather):
            continue
        end = next((at for at in ended if at > back_at), following)
        free_at = back_at if sum(_held(row, back_at) for row in attempts) < SLOTS else end
        took = max(min(following, end) - back_at, following - free_at)
        verdict.takeovers[f"{struck.blow.victim} at {struck.at - weather.began_at.timestamp():.1f} s"] = took


def _held(attempt: Mapping[str, Any], at: float) -> bool:
    """Whether an attempt had a slot of the worker."""
    ended = attempt["ended_at"]
    return bool(attempt["created_at"].timestamp() <= at and (ended is None or ended.timestamp() > at))


def _disturbed(struck: Struck, until: float, weather: Weather) -> bool:
    return any(
        other is not struck and other.at <= until and (other.back_at or until) >= struck.back_at
        for other in weather.struck
    )


async def _nothing_is_left(site: Site, verdict: Verdict) -> None:
    """C5, after the time that the worker needs to see everything durable."""
    deadline = time.monotonic() + _CLEAN_SECONDS
    while True:
        rows = (await site.rows("scheduler", _LEFT_IN_ROWS))[0]
        left = [f"{count} {name}" for name, count in rows.items() if count]
        left += await asyncio.to_thread(site.leftovers)
        client = await site.redis_client()
        try:
            undurable = await client.zcard("log-dirty")
        finally:
            await client.aclose()
        left += [f"{undurable} logs that are not durable"] if undurable else []
        if not left:
            return
        if time.monotonic() > deadline:
            verdict.problems += [f"C5: {one} is left" for one in left]
            return
        await asyncio.sleep(0.5)


async def _events_arrived(site: Site, verdict: Verdict) -> None:
    """C6: every consumer has passed every event, and none was parked."""
    deadline = time.monotonic() + _EVENTS_SECONDS
    while (behind := await _behind(site)) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    verdict.problems += [f"C6: {one}" for one in behind]


async def _behind(site: Site) -> list[str]:
    found: list[str] = []
    for consumer, publisher in CONSUMERS:
        rows = await site.rows(consumer, _CURSORS.format(publisher=publisher))
        found += [] if rows else [f"{consumer} has no cursor for the events of {publisher}"]
        found += [
            f"{consumer}'s {row['consumer']} is at {row['position']} of {row['head']}, {row['dead']} events are parked"
            for row in rows
            if row["dead"] or row["position"] < (row["head"] or 0)
        ]
    return found


async def _what_it_left(verdict: Verdict, clients: Clients, one: Seen) -> None:
    """C3 and C4: log and outputs of one execution, byte for byte."""
    about = f"#{one.job.number} {one.id} ({one.statuses[-1][0] if one.statuses else 'unseen'})"
    execution = await clients.execution(one.id)
    problem = log_problem(execution, (await clients.log(one.id)).decode(), one)
    verdict.expect(problem is None, "C3", f"{about}: {problem}")
    for found in output_problems(one, await clients.outputs(one.id), ended_by_itself=_by_itself(execution)):
        verdict.problems.append(f"C4: {about}: {found}")
    for datum in await clients.outputs(one.id):
        stored = hashlib.sha256(await clients.content(datum)).hexdigest()
        verdict.expect(stored == datum["sha256"], "C4", f"{about}: {datum['name']} is stored otherwise than listed")


def _by_itself(execution: Json) -> bool:
    return execution["status"] in {"complete", "error"}


def log_problem(execution: Json, text: str, one: Seen) -> str | None:
    """What is wrong with a log; None when it is what the parameters make."""
    printed = text.split("\n")
    if printed.pop() != "":
        return "it does not end with the end of a line"
    starts = [number for number, line in enumerate(printed) if _BEGAN.fullmatch(line)]
    wanted = program.lines(one.job.seed, one.job.lines)
    if not starts:
        # Stopped before it ran, or before the program could know of stops.
        return f"it is {text[:80]!r}" if _by_itself(execution) else None
    if len(starts) > execution["attempt_count"] or starts[0] != 0:
        return f"{len(starts)} starts in {execution['attempt_count']} attempts, the first at line {starts[0]}"
    for begin, end in pairwise([*starts, len(printed)]):
        lines = printed[begin + 1 : end]
        last_one = end == len(printed)
        if last_one and _by_itself(execution):
            if lines != wanted:
                return f"{len(lines)} lines instead of {len(wanted)}, {_difference(lines, wanted)}"
            continue
        if lines and lines[-1] == program.stopped(len(lines) - 1):
            lines = lines[:-1]
        if lines != wanted[: len(lines)]:
            return (
                f"the {len(lines)} lines of an attempt that did not end by itself differ: {_difference(lines, wanted)}"
            )
    return None


def _difference(lines: Sequence[str], wanted: Sequence[str]) -> str:
    for number, (found, right) in enumerate(zip(lines, wanted, strict=False)):
        if found != right:
            return f"line {number} is {found[:60]!r} instead of {right[:60]!r}"
    return "one begins as the other"


def output_problems(one: Seen, listed: Sequence[Json], *, ended_by_itself: bool) -> list[str]:
    """What is wrong with the list of outputs."""
    found: list[str] = []
    right = {
        f"output-{number}.bin": hashlib.sha256(program.output(one.job.seed, number)).hexdigest()
        for number in range(one.job.outputs)
    }
    names = Counter(datum["name"] for datum in listed)
    found += [f"{name} is listed {count} times" for name, count in names.items() if count > 1]
    if ended_by_itself and names.keys() != right.keys():
        found.append(f"it lists {sorted(names)} instead of {sorted(right)}")
    for datum in listed:
        if right.get(datum["name"]) != datum["sha256"]:
            found.append(f"{datum['name']} has the hash {datum['sha256']}, not {right.get(datum['name'])}")
    return found
