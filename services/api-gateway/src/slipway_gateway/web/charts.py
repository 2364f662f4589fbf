"""Metadata as small line charts: from records to points of an inline SVG, without a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, MARGIN = 320, 96, 6
MAX_CHARTS = 12
MAX_POINTS = 400
_AXES = ("step", "global_step", "iteration", "epoch")
_FEWEST_POINTS = 2


@dataclass(frozen=True)
class Chart:
    """One series: its points in the coordinates of the picture, and what its ends stand for."""

    name: str
    points: str
    lowest: float
    highest: float
    first: float
    last: float
    newest: float
    axis: str
    count: int


def charts_of(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart for each key that has at least two numbers, in the order in which keys first appear."""
    axis = next(
        (key for key in _AXES if sum(_number(one.get(key)) is not None for one in records) >= _FEWEST_POINTS), ""
    )
    names = dict.fromkeys(key for record in records for key in record if key != axis and not key.startswith("_"))
    charts = []
    for name in names:
        series = [
            (_number(record.get(axis)) if axis else float(index), _number(record.get(name)))
            for index, record in enumerate(records, 1)
        ]
        points = [(x, y) for x, y in series if x is not None and y is not None]
        if len(points) >= _FEWEST_POINTS:
            charts.append(chart(name, points, axis or "record"))
        if len(charts) == MAX_CHARTS:
            break
    return charts


def _number(value: Any) -> float | None:
    """Numbers, and texts that are numbers; not truth values, not infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < float("inf") else None


def chart(name: str, points: Sequence[tuple[float, float]], axis: str) -> Chart:
    """One chart of at least one point."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    across = (right - left) or 1.0
    up = (high - low) or 1.0
    flat = high == low
    every = -(-len(points) // MAX_POINTS)
    kept = [*points[:-1:every], points[-1]]
    drawn = " ".join(
        f"{MARGIN + (x - left) / across * (WIDTH - 2 * MARGIN):.1f},"
        f"{HEIGHT / 2 if flat else HEIGHT - MARGIN - (y - low) / up * (HEIGHT - 2 * MARGIN):.1f}"
        for x, y in kept
    )
    return Chart(name, drawn, low, high, left, right, ys[-1], axis, len(points))
