"""Results as a table on the terminal, as Markdown between markers, and as JSON history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.harness import Result, show_ratio

_HEAD = ["benchmark", "what", "ours: median (min to max)", "peer", "peer: median (min to max)", "ours / peer"]


def rows(results: Sequence[Result]) -> list[list[str]]:
    """One row per measured line."""
    return [
        [
            result.name,
            line.what,
            line.ours.shown(line.unit),
            line.peer_name or "-",
            line.peer.shown(line.unit) if line.peer else "-",
            show_ratio(line),
        ]
        for result in results
        for line in result.lines
    ]


def table(results: Sequence[Result]) -> str:
    """Columns of equal width."""
    shown = [_HEAD, *rows(results)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )


def markdown(results: Sequence[Result], skipped: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """The part of docs/benchmarks.md that this program writes."""
    lines = [f"Measured {facts['at']} at commit {facts['commit']}, {facts['rounds']} rounds.", ""]
    if facts["shared"]:
        lines += [
            f"**The machine was shared with other work** (load {facts['load_at_start'][0]} on "
            f"{facts['cpu'].split()[0]} CPUs when the run began): compare the ratios, not the absolute figures.",
            "",
        ]
    lines += ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results)]
    lines.append("")
    for result in results:
        noise = f" **Noisy:** the spin loop varied by {_spread(result):.0%}." if result.noisy else ""
        lines.append(f"- **{result.name}**: {result.about}. {' '.join(result.notes)}{noise}".rstrip())
    lines += [f"- **{name}**: no figure, {reason}." for name, reason in skipped.items()]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    lines += [
        "",
        f"Machine: {facts['cpu']}, SHA instructions: {'yes' if facts['sha_ni'] else 'no'}, {facts['memory_gib']} GiB, "
        f"{facts['fsync_per_second']:,} fsyncs of 4 KiB per s, Linux {facts['kernel']}, CPU time stolen "
        f"{facts['steal']:.1%}. Python {facts['python']}, Docker {facts['docker']}, {facts['bubblewrap']}, {packages}.",
    ]
    return "\n".join(lines)


def _spread(result: Result) -> float:
    return max(result.spins) / min(result.spins) - 1


def write_section(file: Path, section: str, text: str) -> None:
    """Replace what stands between the section's markers; the rest of the page stays. Raises ValueError without them."""
    first, last = f"<!-- results, {section}: start -->", f"<!-- results, {section}: end -->"
    page = file.read_text()
    before, start, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not start or not end:
        raise ValueError(f"{file} has no lines {first} and {last}")
    file.write_text(f"{before}{first}\n{text}\n{last}{after}")


def append_history(
    folder: Path, results: Sequence[Result], skipped: Mapping[str, str], facts: Mapping[str, Any]
) -> Path:
    """One JSON file per run, with every round."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{str(facts['at']).replace(':', '')}.json"
    found = {"facts": facts, "results": [asdict(one) for one in results], "skipped": skipped}
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file
