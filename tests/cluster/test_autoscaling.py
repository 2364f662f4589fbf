"""Replicas come under load and go after it, once each, and no request fails meanwhile."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest

from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_kit.clock import SystemClock
from slipway_schemas.inference.versions import Scale
from slipway_testing.conformance.target import SERVER, MakeRevision, Watch, ask
from slipway_testing.kubernetes.fixtures import Kubectl
from tests.cluster.support import TargetSettings

pytestmark = pytest.mark.kubernetes

BUSY = SERVER.replace("    def do_GET(self):\n", "    def do_GET(self):\n        sum(range(400_000))\n")
METRICS_SECONDS = 90.0
LOAD_SECONDS = 60.0
CALM_SECONDS = 120.0


async def test_replicas_follow_the_load_in_one_direction_at_a_time(
    kubernetes_cluster: Kubectl, target_settings: TargetSettings, make_revision: MakeRevision
) -> None:
    target = KubernetesTarget(target_settings(scale_down_seconds=20, drain_seconds=3), "scale", b"", SystemClock())
    try:
        await _metrics(kubernetes_cluster)
        checks = {check.name: check for check in await target.check()}
        assert checks["autoscaling (optional)"].ok
        revision = replace(make_revision(BUSY), scale=Scale(replicas=1, replicas_max=3, cpu_percent=50))
        watch = Watch(target, revision.endpoint_id)
        await target.apply(revision)
        address = await watch.until_serving(1, 1, 60)
        answers: Counter[str] = Counter()
        wanted: list[int] = []
        loaded = time.monotonic() + LOAD_SECONDS
        calm = loaded + CALM_SECONDS
        while time.monotonic() < calm:
            try:
                await ask(address)
            except (OSError, TimeoutError) as error:
                answers[repr(error)] += 1
            else:
                answers["answered"] += 1
            wanted.append((await target.observe())[revision.endpoint_id].wanted)
            if time.monotonic() > loaded:
                if wanted[-1] == 1 and max(wanted) > 1:
                    break
                await asyncio.sleep(1)
        print(f"replicas: {[count for count, _ in groupby(wanted)]}, answers: {dict(answers)}")
        assert set(answers) == {"answered"}
        steps = [count for count, _ in groupby(wanted)]
        top = steps.index(max(steps))
        assert max(steps) > 1
        assert steps[: top + 1] == sorted(steps[: top + 1])
        assert steps[top:] == sorted(steps[top:], reverse=True)
        assert steps[-1] == 1
        await target.remove(revision.endpoint_id)
        await watch.until_gone(60)
    finally:
        await target.aclose()


async def _metrics(kubectl: Kubectl) -> None:
    """Wait until the cluster has measured its node."""
    end = time.monotonic() + METRICS_SECONDS
    while "slipway" not in await asyncio.to_thread(kubectl, "top", "nodes", check=False):
        assert time.monotonic() < end, "the cluster measures no use of CPUs"
        await asyncio.sleep(2)
