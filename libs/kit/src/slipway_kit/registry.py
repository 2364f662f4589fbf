"""Providers found by entry points; one that cannot be imported is shown with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from slipway_kit.errors import NotFound, Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class ProviderStatus:
    """Whether a provider can be used; `reason` says why not."""

    name: str
    available: bool
    reason: str | None = None


class Registry(Generic[T]):
    """The providers of one family: the entry-point group `slipway.providers.<family>`."""

    def __init__(self, group: str, points: Iterable[EntryPoint] | None = None) -> None:
        self.group = group
        self._loaded: dict[str, T] = {}
        self._reasons: dict[str, str] = {}
        for point in entry_points(group=group) if points is None else points:
            try:
                self._loaded[point.name] = cast(T, point.load())
            except Exception as error:  # noqa: BLE001 - whatever import raises is the reason
                self._reasons[point.name] = f"{type(error).__name__}: {error}"

    def statuses(self) -> list[ProviderStatus]:
        """List every provider by name, the unavailable ones with their reason."""
        known = [ProviderStatus(name, True) for name in self._loaded]
        broken = [ProviderStatus(name, False, reason) for name, reason in self._reasons.items()]
        return sorted(known + broken, key=lambda status: status.name)

    def get(self, name: str) -> T:
        """Return the provider. Raises `Unavailable` with the reason, or `NotFound` with the known names."""
        if name in self._loaded:
            return self._loaded[name]
        if name in self._reasons:
            raise Unavailable(f"The provider {name} of {self.group} is not usable: {self._reasons[name]}")
        names = ", ".join(sorted(self._loaded)) or "none"
        raise NotFound(f"There is no provider {name} in {self.group}; known: {names}.")
