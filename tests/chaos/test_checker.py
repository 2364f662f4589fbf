"""The checker finds what it looks for: each rule, broken once by hand."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.project import storm as program
from tests.chaos.support import ledger, plan
from tests.chaos.support.checker import Verdict, _one_end_each, log_problem, output_problems
from tests.chaos.support.clients import Seen
from tests.chaos.support.plan import Job

JOB = Job(0, 5, 120, 1.0, 2, 0, None)
LINES = program.lines(JOB.seed, JOB.lines)
COMPLETE = {"status": "complete", "attempt_count": 1}
STOPPED = {"status": "stopped", "attempt_count": 1}


def _log(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in [program.began(7), *lines])


@pytest.mark.parametrize(
    ("execution", "text", "right"),
    [
        (COMPLETE, _log(LINES), True),
        (COMPLETE, _log(LINES[:-1]), False),
        (COMPLETE, _log([*LINES, LINES[-1]]), False),
        (COMPLETE, _log([LINES[1], LINES[0], *LINES[2:]]), False),
        (COMPLETE, _log(LINES)[:-1], False),
        (COMPLETE, "", False),
        (COMPLETE, _log(LINES[:40]) + _log(LINES), False),
        (COMPLETE | {"attempt_count": 2}, _log(LINES[:40]) + _log(LINES), True),
        (COMPLETE | {"attempt_count": 2}, _log(LINES[1:40]) + _log(LINES), False),
        (STOPPED, _log([*LINES[:30], program.stopped(30)]), True),
        (STOPPED, _log([*LINES[:30], program.stopped(31)]), False),
        (STOPPED, _log(LINES[1:30]), False),
        (STOPPED, "", True),
    ],
)
def test_logs(execution: dict[str, Any], text: str, right: bool) -> None:
    assert (log_problem(execution, text, Seen(JOB)) is None) is right


def test_outputs() -> None:
    right = [
        {"name": f"output-{n}.bin", "sha256": hashlib.sha256(program.output(JOB.seed, n)).hexdigest()} for n in (0, 1)
    ]
    assert output_problems(Seen(JOB), right, ended_by_itself=True) == []
    assert output_problems(Seen(JOB), right[:1], ended_by_itself=False) == []
    for wrong in (right[:1], [*right, right[0]], [right[0], right[1] | {"sha256": "0"}]):
        assert output_problems(Seen(JOB), wrong, ended_by_itself=True)


class _Clients:
    def __init__(self, seen: Seen) -> None:
        self.seen = [seen]
        self.faulty: list[str] = []


def _seen(*statuses: tuple[str, int], stop_asked: bool = False, ids: tuple[str, ...] = ("one",)) -> Seen:
    return Seen(JOB, "one", 1.0, len(ids), set(ids), list(statuses), stop_asked)


def _rows(*statuses: str | None, execution: str = "one") -> list[dict[str, Any]]:
    return [{"execution_id": execution, "before": before, "after": after} for before, after in pairwise(statuses)]


FULL_PATH = _rows(None, "created", "queued", "started", "complete")
SEEN_ALL = _seen(("queued", 0), ("started", 1), ("complete", 1))


@pytest.mark.parametrize(
    ("seen", "rows", "rule"),
    [
        (SEEN_ALL, FULL_PATH, None),
        (SEEN_ALL, FULL_PATH[:-1], "C1"),
        (SEEN_ALL, [*FULL_PATH, *_rows("started", "complete")], "C1"),
        (SEEN_ALL, [*FULL_PATH, *_rows(None, "created", execution="two")], "C1"),
        (_seen(("queued", 0), ("complete", 1), ids=("one", "two")), FULL_PATH, "C1"),
        (_seen(("queued", 0), ("error", 1)), _rows(None, "created", "queued", "started", "error"), "C1"),
        (_seen(("queued", 0), ("stopped", 0)), _rows(None, "created", "queued", "stopped"), "C1"),
        (_seen(("queued", 0), ("stopped", 0), stop_asked=True), _rows(None, "created", "queued", "stopped"), None),
        (SEEN_ALL, _rows(None, "created", "started", "complete"), "C2"),
        (SEEN_ALL, [FULL_PATH[0], *FULL_PATH[2:]], "C2"),
        (_seen(("complete", 1), ("started", 1), ("complete", 1)), FULL_PATH, "C6"),
        (_seen(("started", 1), ("created", 1), ("complete", 1)), FULL_PATH, "C6"),
        (_seen(("started", 1), ("queued", 1), ("started", 2), ("complete", 2)), FULL_PATH, None),
    ],
)
def test_ends_and_paths(seen: Seen, rows: list[dict[str, Any]], rule: str | None) -> None:
    verdict = Verdict()
    _one_end_each(verdict, _Clients(seen), [seen], rows)  # type: ignore[arg-type]
    found = {problem.partition(":")[0] for problem in verdict.problems}
    assert rule in found if rule else not found


def test_a_seed_makes_the_same_storm() -> None:
    scale = plan.Scale(50, 16)
    assert plan.jobs(3, scale) == plan.jobs(3, scale) != plan.jobs(4, scale)
    assert plan.blows(3, scale) == plan.blows(3, scale) != plan.blows(4, scale)
    assert {blow.victim for blow in plan.blows(3, scale)} == set(plan.VICTIMS)


def test_sums_on_the_page_grow(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ledger.START}\n{ledger.END}\nafter\n")

    ledger.add_to_page(page, "storm", 1, {"kills": 1_000, "lost": 0}, ["First."])
    ledger.add_to_page(page, "storm", 2, {"kills": 234, "lost": 0}, ["Second."])
    ledger.add_to_page(page, "zombie", 3, {"rounds": 2}, [])
    text = page.read_text()
    assert "| storm | 2 | 1,234 kills, 0 lost |" in text
    assert "| zombie | 1 | 2 rounds |" in text
    assert "Second." in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
