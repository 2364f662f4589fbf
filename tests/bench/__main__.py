"""`python -m tests.bench [names] [--rounds N] [--quick]`: measure, print a table, write docs/benchmarks.md."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from tests.bench import cycles, idle, images, inference, logs, report, router, start
from tests.bench.harness import CALM_LOAD, NOISY_STEAL, Options, Result, SkippedError, machine_facts, steal_ticks

ROOT = Path(__file__).parents[2]
HISTORY = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
BENCHMARKS: Mapping[str, Callable[[Options], Awaitable[Result]]] = MappingProxyType(
    {
        "start-process": start.start_process,
        "start-docker": start.start_docker,
        "cycles": cycles.cycles,
        "log-rate": logs.log_rate,
        "log-delay": logs.log_delay,
        "idle": idle.idle,
        "ready": idle.ready,
        "images": images.images,
        "inference-first-answer": inference.inference_first_answer,
        "router-rate": router.router_rate,
        "router-moves": router.router_moves,
        "router-table": router.router_table,
    }
)
SECTIONS = MappingProxyType(
    {
        "executions": ("start-process", "start-docker", "cycles", "log-rate", "log-delay", "idle", "ready"),
        "inference": ("images", "inference-first-answer", "router-rate", "router-moves", "router-table"),
    }
)
"""Of the page; a run that has all of a section writes it."""
QUICK_ROUNDS = 2


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--rounds", type=int, default=None, help="interleaved rounds (5; less says little)")
    parser.add_argument("--quick", action="store_true", help="small counts, 2 rounds, for CI; the page stays as it is")
    parser.add_argument("--executions", type=int, default=Options.executions, help="life cycles per round of `cycles`")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - BENCHMARKS.keys())
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else Options.rounds)
    names = [name for name in BENCHMARKS if not given.names or name in given.names]
    return asyncio.run(_run(names, Options(rounds=rounds, quick=given.quick, executions=given.executions)))


async def _run(names: list[str], options: Options) -> int:
    facts = machine_facts()
    began = steal_ticks()
    results: list[Result] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        print(f"{name} ...", flush=True)
        try:
            results.append(await BENCHMARKS[name](options))
            print(f"{report.table(results[-1:])}\n", flush=True)
        except SkippedError as reason:
            skipped[name] = str(reason)
        except Exception as error:  # noqa: BLE001 - the others are measured all the same
            failed[name] = f"it failed with {type(error).__name__}"
            print(f"{name} failed: {error!r}", flush=True)
    ended = steal_ticks()
    facts["steal"] = (ended[0] - began[0]) / max(1, ended[1] - began[1])
    facts["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    facts["rounds"] = options.rounds
    facts["load_at_end"] = [round(one, 2) for one in os.getloadavg()]
    facts["shared"] = facts["load_at_start"][0] > CALM_LOAD or facts["steal"] > NOISY_STEAL
    print(f"{report.table(results)}\n")
    for result in results:
        for note in result.notes:
            print(f"{result.name}: {note}")
        if result.noisy:
            print(f"{result.name}: noisy, the machine was not quiet")
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}")
    history = report.append_history(HISTORY, results, skipped, facts)
    print(f"All rounds: {history.relative_to(ROOT)}")
    for section, wanted in SECTIONS.items():
        found = [one for one in results if one.name in wanted]
        if found and not options.quick and set(wanted) <= set(names):
            missing = {name: why for name, why in {**skipped, **failed}.items() if name in wanted}
            report.write_section(PAGE, section, report.markdown(found, missing, facts))
            print(f"Written: {PAGE.relative_to(ROOT)}, {section}")
    print("Run it again with `make bench`, or `python -m tests.bench NAME --rounds N` for some of it.")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
