"""A large output passes through without growing anybody."""

import hashlib
import time

import pytest

from tests.chaos.delivery.conftest import Broken
from tests.e2e.support.api import FINAL

pytestmark = pytest.mark.usefixtures("mended")

GIB = 1024**3
MOST = 128 * 1024**2


@pytest.mark.timeout(300)
def test_an_output_of_1_gib_grows_neither_worker_nor_gateway(broken: Broken) -> None:
    services = ("worker", "gateway")
    before = {name: broken.platform.memory_bytes(name) for name in services}
    most = dict(before)
    run = broken.bench.api.run(broken.bench.project, broken.bench.commit, "gigabyte")
    deadline = time.monotonic() + 240
    while (found := broken.bench.api.execution(run["id"]))["status"] not in FINAL:
        for name in services:
            most[name] = max(most[name], broken.platform.memory_bytes(name))
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert found["status"] == "complete", broken.bench.api.story(found)
    datum = broken.bench.api.outputs(found)["big.bin"]
    digest = hashlib.sha256()
    for _ in range(GIB // 2**20):
        digest.update(bytes(2**20))
    assert (datum["size"], datum["sha256"]) == (GIB, digest.hexdigest())
    grown = {name: most[name] - before[name] for name in services}
    print(f"1 GiB uploaded: resident memory grew by { ({name: f'{n / 2**20:.0f} MiB' for name, n in grown.items()}) }")
    assert max(grown.values()) < MOST
