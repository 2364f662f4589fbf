"""The default layout, all services in one process: killed servers come back, and nobody who runs notices."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from slipway_testing.git_servers import GitHttpServer
from tests.chaos.support.checker import log_problem
from tests.chaos.support.clients import Seen
from tests.chaos.support.ground import Ground, linked_project
from tests.chaos.support.plan import SERVERS, Job
from tests.chaos.support.site import Site
from tests.e2e.support.api import Api
from tests.e2e.support.platform import Platform

pytestmark = pytest.mark.bwrap

BACK_SECONDS = 6.0
"""The goal is about a second; this machine may be busy with other tests."""
DISPATCH_SECONDS = 6.0
_ACCEPTED = "SELECT created_at FROM attempts WHERE execution_id = $1::uuid"


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[Ground]:
    """A platform in the default layout."""
    platform = Platform("process", processes="one")
    git_server = GitHttpServer(tmp_path / "git")
    try:
        platform.start()
        with Api(platform.url, platform.credentials["token"]) as api:
            yield Ground(Site(platform), api, *linked_project(api, git_server, tmp_path / "checkout"))
    finally:
        assert platform.stop() == 0, platform.output[-3000:]
        git_server.close()
        platform.delete()


async def test_killed_servers_come_back_and_runs_go_on(one_process: Ground) -> None:
    """Each server is killed while an execution prints; the next one starts within 6 s after the server answers."""
    ground = one_process
    job = Job(0, 23, 400, 8.0, 2, 0, None)
    running = ground.run("storm", **job.parameters)
    ground.api.wait_line(running, "began as")
    shims = ground.site.shims()
    assert len(shims) == 1
    for server in SERVERS:
        former = ground.site.processes()[server]
        assert former is not None
        killed_at = time.time()
        os.kill(former, SIGKILL)
        back_at = await ground.site.wait_back(server, former)
        assert back_at - killed_at < BACK_SECONDS
        headers = {"Idempotency-Key": f"after {server}"}
        body = {"project": ground.project, "commit": ground.commit, "step": "storm"}
        while (
            answer := ground.api.call(
                "POST", "executions/", json={**body, "parameters": {**job.parameters, "seconds": 0}}, headers=headers
            )
        ).status_code >= 500:
            assert answer.status_code == 503, answer.text
            assert time.time() < back_at + DISPATCH_SECONDS, answer.text
            time.sleep(0.1)
        quick = ground.api.wait_complete(answer.json()["id"])
        dispatched_at = (await ground.site.rows("scheduler", _ACCEPTED, quick["id"]))[0]["created_at"].timestamp()
        assert dispatched_at - back_at < DISPATCH_SECONDS
        assert ground.site.shims() == shims, "the run was touched"
    done = ground.api.wait_complete(running["id"])
    assert done["attempt_count"] == 1
    assert log_problem(done, ground.api.raw_log(done).decode(), Seen(job, id=done["id"])) is None
    for server in SERVERS:
        assert f"server={server}" in ground.platform.output, "the operator is told"
    assert ground.platform.output.count("server_started_again") == len(SERVERS)
