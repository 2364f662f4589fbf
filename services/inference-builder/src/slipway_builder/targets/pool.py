"""The open connections to targets of one builder process."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from slipway_builder.targets.protocol import Target
from slipway_builder.targets.store import Target as TargetRecord
from slipway_kit.registry import Registry

TargetFactory = Callable[[UUID, Mapping[str, Any], Mapping[str, Any]], Target]
"""Opens a target: its id, its settings, and what the installation adds to targets of its kind."""

GROUP = "slipway.providers.target"


class TargetPool:
    """Opens each target once, and again when its settings change."""

    def __init__(self, local: Mapping[str, Mapping[str, Any]]) -> None:
        """`local`: settings by kind that belong to this installation, such as directories."""
        self._local = local
        self._registry: Registry[TargetFactory] = Registry(GROUP)
        self._open: dict[UUID, tuple[str, Target]] = {}
        self._stale: list[Target] = []

    def open(self, record: TargetRecord) -> Target:
        """The target of a row. Raises `NotFound` or `Unavailable` when this installation lacks its kind."""
        stamp = json.dumps([record.kind, record.settings], sort_keys=True)
        known = self._open.get(record.id)
        if known is not None:
            if known[0] == stamp:
                return known[1]
            self._stale.append(known[1])
        factory = self._registry.get(record.kind)
        target = factory(record.id, record.settings, self._local.get(record.kind, {}))
        self._open[record.id] = (stamp, target)
        return target

    async def aclose(self) -> None:
        """Let go of all."""
        for target in [*self._stale, *(target for _, target in self._open.values())]:
            await target.aclose()
        self._stale, self._open = [], {}
