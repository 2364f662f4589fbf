"""Variables of the execution that steer the agent (contract 3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

_TRUE = frozenset({"1", "yes", "true"})


@dataclass(frozen=True)
class Controls:
    """What the execution's variables ask of the agent."""

    no_data_cache: bool = False
    no_image_cache: bool = False
    clean: bool = False
    cpus: float | None = None
    cpu_set: str | None = None
    host_network: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Controls":
        """Understand the variables; what cannot be understood is as if it were not set."""
        cpus, cpu_set = _cpu_limit(variables.get("VH_CPU_LIMIT", ""))
        return cls(
            no_data_cache=_true(variables.get("VH_NO_DATA_CACHE")),
            no_image_cache=_true(variables.get("VH_NO_IMAGE_CACHE")),
            clean=_true(variables.get("VH_CLEAN")),
            cpus=cpus,
            cpu_set=cpu_set,
            host_network=variables.get("VH_DOCKER_NETWORK") == "host",
        )


def _true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in _TRUE


def _cpu_limit(text: str) -> tuple[float | None, str | None]:
    """`4` is a number of CPUs; `0,2` and `0-3` are core numbers."""
    text = text.strip()
    if not text:
        return None, None
    if "," in text or "-" in text:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if all(bound.strip().isdigit() for part in parts for bound in part.split("-", 1)):
            return None, ",".join(parts)
        return None, None
    try:
        count = float(text)
    except ValueError:
        return None, None
    return (count, None) if 0 < count < float("inf") else (None, None)
