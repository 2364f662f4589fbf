"""The Kubernetes target does what every target does, on a real cluster."""

import pytest

from slipway_testing.conformance.target import TargetConformance

pytestmark = pytest.mark.kubernetes


class TestKubernetesTarget(TargetConformance):
    """All of it."""
