"""What the fixtures of this folder give."""

from typing import Protocol

from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings


class TargetSettings(Protocol):
    """Makes settings of a target in the test's namespace."""

    def __call__(self, **changes: object) -> KubernetesTargetSettings:
        """With these changes."""
        ...
