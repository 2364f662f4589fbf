"""What happened to each attempt, in words and small charts, for the page of an execution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipway_gateway.failures.api_v1 import Usage
from slipway_gateway.failures.domain import Attempt
from slipway_gateway.web.charts import Chart, chart
from slipway_gateway.web.formats import size
from slipway_kit.errors import SlipwayError
from slipway_kit.http import Neighbour
from slipway_schemas.usage import UsageSample

_USAGE_SECONDS: Final = 5.0
_POINTS: Final = 400
_FEWEST_POINTS: Final = 2
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class AttemptUsage:
    """Charts of what one attempt used."""

    number: int
    charts: Sequence[Chart]


def _mib(value: int | None) -> float | None:
    return None if value is None else round(value / _MIB, 1)


_SERIES: Final[tuple[tuple[str, Callable[[UsageSample], float | None]], ...]] = (
    ("CPU, cores", lambda one: one.cpus),
    ("Memory, MiB", lambda one: _mib(one.memory_bytes)),
    ("Disk, MiB", lambda one: _mib(one.disk_bytes)),
)


async def usage_charts(logs: Neighbour, execution_id: object) -> list[AttemptUsage]:
    """Charts of every attempt, newest first; none when the log service is away: the page is shown anyway."""
    path = f"/internal/v1/executions/{execution_id}/usage?points={_POINTS}"
    try:
        found = await logs.get(path, result=Usage, timeout=_USAGE_SECONDS)
    except SlipwayError:
        return []
    shown = [AttemptUsage(one.number, charts_of_samples(one.samples)) for one in reversed(found.root)]
    return [one for one in shown if one.charts]


def charts_of_samples(samples: Sequence[UsageSample]) -> list[Chart]:
    """CPU, memory, disk and each GPU over the minutes since the first sample."""
    if len(samples) < _FEWEST_POINTS:
        return []
    begin = samples[0].time_us
    indices = sorted({gpu.index for one in samples for gpu in one.gpus})
    series = [*_SERIES, *((f"GPU {index}, % busy", _busy(index)) for index in indices)]
    charts = []
    for name, value_of in series:
        values = [((one.time_us - begin) / 60e6, value_of(one)) for one in samples]
        points = [(round(minute, 2), value) for minute, value in values if value is not None]
        if len(points) >= _FEWEST_POINTS:
            charts.append(chart(name, points, "minute"))
    return charts


def _busy(index: int) -> Callable[[UsageSample], float | None]:
    return lambda sample: next((gpu.busy_percent for gpu in sample.gpus if gpu.index == index), None)


def evidence_lines(attempt: Attempt) -> list[tuple[str, str]]:
    """The evidence of an attempt's end, each piece with its name."""
    found: dict[str, Any] = attempt.evidence
    memory, disk = found.get("memory") or {}, found.get("disk") or {}
    engine, processes = found.get("engine") or {}, found.get("processes") or {}
    lines = []
    if found.get("signal"):
        lines.append(("Signal", str(found["signal"])))
    if "peak_bytes" in memory:
        limit = f" of {size(memory['limit_bytes'])} allowed" if "limit_bytes" in memory else ", no limit"
        lines.append(("Memory peak", size(memory["peak_bytes"]) + limit))
    elif "limit_bytes" in memory:
        lines.append(("Memory limit", size(memory["limit_bytes"])))
    if memory.get("oom_kills"):
        lines.append(
            ("Killed for memory", f"{memory['oom_kills']} processes, says the {memory.get('source', 'kernel')}")
        )
    if engine.get("oom_killed"):
        lines.append(("Container engine", "says that it was killed for want of memory"))
    if engine.get("error"):
        lines.append(("Container engine", str(engine["error"])))
    lines += [("Kernel", str(line)) for line in found.get("kernel") or ()]
    if processes.get("refused"):
        lines.append(("Processes", f"{processes['refused']} not started: the limit is {processes.get('limit')}"))
    if disk:
        lines.append(("Worker's disk", f"{size(disk.get('free_bytes'))} free of {size(disk.get('total_bytes'))}"))
    if found.get("cpu_seconds") is not None:
        lines.append(("CPU time", f"{found['cpu_seconds']} s"))
    if found.get("failed_in"):
        lines.append(("Failed while", str(found["failed_in"])))
    if found.get("last_heard_before"):
        lines.append(("Not heard of since", str(found["last_heard_before"])))
    if found.get("error"):
        lines.append(("Error", str(found["error"])))
    return lines
