"""The open connections to targets of one builder process."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from slipway_builder.targets.protocol import Target
from slipway_builder.targets.sealing import unseal
from slipway_builder.targets.store import Target as TargetRecord
from slipway_kit.errors import Invalid
from slipway_kit.registry import Registry
from slipway_kit.vault import Vault
from slipway_schemas.inference.statuses import TargetKind

TargetFactory = Callable[[UUID, Mapping[str, Any], Mapping[str, Any]], Target]
"""Opens a target: its id, its settings, and what the installation adds to targets of its kind."""

GROUP = "slipway.providers.target"


class TargetPool:
    """Opens each target once, and again when its settings change."""

    def __init__(self, local: Mapping[str, Mapping[str, Any]], vault: Vault) -> None:
        """`local`: settings by kind that belong to this installation, such as directories."""
        self._local = local
        self._vault = vault
        self._registry: Registry[TargetFactory] = Registry(GROUP)
        self._open: dict[UUID, tuple[bytes, Target]] = {}
        self._stale: list[Target] = []

    def open(self, record: TargetRecord) -> Target:
        """The target of a row. Raises `Invalid` when this installation lacks its kind, `VaultError`."""
        known = self._open.get(record.id)
        if known is not None:
            if known[0] == record.settings:
                return known[1]
            self._stale.append(known[1])
        target = self.make(record.id, record.kind, self.settings(record))
        self._open[record.id] = (record.settings, target)
        return target

    def make(self, target_id: UUID, kind: TargetKind, settings: Mapping[str, Any]) -> Target:
        """A target by its settings; raises what `open` does."""
        if kind not in self._local:
            raise Invalid(f"This installation is not set up for deployment targets of the kind {kind}.", field="kind")
        return self._registry.get(kind)(target_id, settings, self._local[kind])

    def settings(self, record: TargetRecord) -> dict[str, Any]:
        """The settings of a row. Raises `VaultError`."""
        return unseal(self._vault, record.id, record.settings)

    async def aclose(self) -> None:
        """Let go of all."""
        for target in [*self._stale, *(target for _, target in self._open.values())]:
            await target.aclose()
        self._stale, self._open = [], {}
