"""What fits the workers of an environment, in words."""

from collections.abc import Sequence

from slipway_scheduler.dispatch.domain.order import Demand, Room

_GIB = 1024**3


def misfit(demand: Demand, sizes: Sequence[Room]) -> str | None:
    """What of a demand no worker of these sizes has, as the end of a sentence; None when one of them is large enough.

    Without a known size nothing is refused: nobody knows.
    """
    if not sizes or any(size.fits(demand) for size in sizes):
        return None
    misses: list[str] = []
    if demand.memory_bytes > (memory := max(size.memory_bytes for size in sizes)):
        misses.append(f"needs {gib(demand.memory_bytes)} of memory but the largest worker has {gib(memory)}")
    if demand.cpus > (cpus := max(size.cpus for size in sizes)):
        misses.append(f"needs {demand.cpus:g} CPUs but the largest worker has {cpus:g}")
    if demand.gpus > (gpus := max(size.gpus for size in sizes)):
        misses.append(f"needs {_counted(demand.gpus)} but the largest worker has {gpus or 'none'}")
    return " and ".join(misses) or "needs more at once than any single worker has"


def gib(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / _GIB:.3g} GiB"


def _counted(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"
