"""The cumulative counts: every run into a file, and the sums of all full runs into docs/benchmarks.md."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.support.plan import full_run

ROOT = Path(__file__).parents[3]
HISTORY = ROOT / ".cache" / "chaos" / "history.jsonl"
PAGE = ROOT / "docs" / "benchmarks.md"
START = "<!-- chaos: start -->"
END = "<!-- chaos: end -->"
_TOTALS = "<!-- chaos totals: "


def record(kind: str, seed: int, counts: Mapping[str, int], figures: Sequence[str]) -> None:
    """Keep what a run of `kind` counted, and say it. `figures` are sentences about this run alone.

    In `make chaos` the sums on the page grow, too: they are kept in the page itself, and nobody sets them back.
    """
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"\nchaos: {kind}, seed {seed}: {told}. {' '.join(figures)}")
    HISTORY.parent.mkdir(parents=True, exist_ok=True)
    entry = {"at": _now(), "commit": _commit(), "kind": kind, "seed": seed, "counts": dict(counts)}
    with HISTORY.open("a") as file:
        file.write(json.dumps({**entry, "figures": list(figures)}) + "\n")
    if full_run():
        add_to_page(PAGE, kind, seed, counts, figures)


def add_to_page(page: Path, kind: str, seed: int, counts: Mapping[str, int], figures: Sequence[str]) -> None:
    """Add to the sums between the markers. Raises ValueError when the page has no markers."""
    text = page.read_text()
    before, start, rest = text.partition(START)
    section, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{page} has no lines {START} and {END}")
    kinds = _totals(section)
    known = kinds.setdefault(kind, {"runs": 0, "counts": {}})
    known["runs"] += 1
    sums = known["counts"]
    known["counts"] = {name: sums.get(name, 0) + count for name, count in counts.items()}
    known["last"] = ": ".join([f"{_now()}, commit {_commit()}, seed {seed}", *([" ".join(figures)] if figures else [])])
    page.write_text(f"{before}{START}\n{_section(kinds)}\n{END}{after}")


def _totals(section: str) -> dict[str, Any]:
    for line in section.splitlines():
        if line.startswith(_TOTALS):
            found: dict[str, Any] = json.loads(line.removeprefix(_TOTALS).removesuffix(" -->"))
            return found
    return {}


def _section(kinds: Mapping[str, Any]) -> str:
    lines = [
        f"{_TOTALS}{json.dumps(kinds)} -->",
        "",
        "| what | runs | counted in all runs |",
        "|---|---|---|",
    ]
    for kind, known in sorted(kinds.items()):
        counted = ", ".join(f"{count:,} {name}" for name, count in known["counts"].items())
        lines.append(f"| {kind} | {known['runs']} | {counted} |")
    lines.append("")
    lines += [f"- **{kind}**, last run: {known['last']}" for kind, known in sorted(kinds.items())]
    return "\n".join(lines)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout.strip() or os.environ.get("SLIPWAY_COMMIT", "unknown")
