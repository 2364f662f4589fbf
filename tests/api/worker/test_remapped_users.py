"""Runs of an engine that remaps users: root of the container is an unprivileged user of the machine."""

import pytest

from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited
from slipway_testing.engines import remapping_engine
from slipway_testing.neighbours.platform import PlatformNeighbours
from slipway_testing.tools import TEST_IMAGE
from tests.api.worker.conftest import RunWorker, StoreInput

pytestmark = pytest.mark.docker

COMMAND = """
id -u; cut -c1-200 /proc/self/uid_map
cat /valohai/inputs/numbers/numbers.csv main.py
echo more >> main.py && chown 1000 main.py
mkdir /valohai/outputs/deep && echo out > /valohai/outputs/deep/out.txt && chmod 600 /valohai/outputs/deep/out.txt
touch /proc/sys/kernel/hostname 2>/dev/null && echo x > /proc/sys/kernel/hostname
exit 3
"""


async def test_a_run_has_inputs_code_and_outputs_as_always(
    platform: PlatformNeighbours, run_worker: RunWorker, store_input: StoreInput
) -> None:
    async with remapping_engine(TEST_IMAGE) as socket:
        home = await run_worker("docker", container={"socket": socket, "network": "none"})
        attempt = await platform.assign(
            COMMAND,
            image=TEST_IMAGE,
            files={"main.py": b"print(1)\n"},
            inputs=[await store_input("numbers", b"1,2\n")],
        )
        fact = await platform.scheduler.ended(attempt, timeout=60)
        assert isinstance(fact, Exited), fact
        assert (fact.code, fact.reason, fact.outputs) == (3, EndReason.USER_CODE, 1)
        user, remapped, *rest = platform.relay.logs[attempt].stream(LogStream.STDOUT).decode().splitlines()
        assert user == "0"
        inside, outside, _ = map(int, remapped.split())
        assert (inside, outside > 0) == (0, True), "root of the container is nobody's root"
        assert rest == ["1,2", "print(1)"]
        assert await platform.gateway.content(attempt, "deep/out.txt") == b"out\n"
        await platform.scheduler.until(lambda: not list((home / "attempts").iterdir()))
