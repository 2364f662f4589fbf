"""A machine that is taken back: the run is told, its outputs are kept, and the next attempt has them."""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.support.api import Api, Json
from tests.e2e.support.lab import Lab


@pytest.fixture
def taken_back(lab: Lab) -> Iterator[None]:
    """Have no notice stand after the test, and the worker take work again."""
    yield
    lab.platform.preemption_notice.unlink(missing_ok=True)
    lab.api.wait_complete(lab.run("lines", parameters={"count": 1})["id"])


def take_back(lab: Lab, seconds: float = 60.0) -> float:
    lab.platform.preemption_notice.write_text((datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())
    return time.monotonic()


def wait_line(api: Api, run: Json, text: str) -> None:
    api.wait_line(api.execution(run["id"]), text)


def test_a_preempted_run_goes_on_from_its_outputs(lab: Lab, taken_back: None) -> None:
    run = lab.run("checkpointed", runtime_config={"autorestart": True})
    wait_line(lab.api, run, "starting from nothing")
    noticed = take_back(lab)
    queued = lab.api.wait(run["id"], ("queued",), timeout=10)
    assert time.monotonic() - noticed < 10
    [restart] = queued["inputs"]
    assert restart["name"] == "_restart"
    [kept] = lab.api.outputs(queued).values()
    assert restart["urls"] == [f"datum://{kept['id']}"]
    waiting = json.loads(lab.api.call("GET", f"/api/v1/executions/{run['id']}/waiting/").text)
    assert waiting["failed_attempt"]["reason"] == "preempted"
    assert [one["kind"] for one in waiting["blockers"]] == ["no_worker", "workers_refuse"]

    lab.platform.preemption_notice.unlink()
    done = lab.api.wait_complete(run["id"])
    assert done["attempt_count"] == 2
    assert lab.api.lines(done) == [
        "starting from nothing",
        "checkpoint written",
        "resuming from epoch 2, of ['checkpoints/last.txt']",
    ]
    status = lab.api.status_lines(done)
    assert "Run again: attempt 2 of at most 7, because the cloud took the worker back." in status
    assert any(line.startswith("This machine is taken back at ") for line in status)


def test_a_preempted_run_without_autorestart_has_crashed(lab: Lab, taken_back: None) -> None:
    run = lab.run("checkpointed")
    wait_line(lab.api, run, "starting from nothing")
    take_back(lab)
    ended = lab.api.wait(run["id"])
    assert (ended["status"], ended["end_reason"], ended["attempt_count"]) == ("crashed", "preempted", 1)
    assert lab.api.output(ended, "checkpoints/last.txt") == b"epoch 2"


def test_the_doctor_says_what_is_wrong_the_worst_first(lab: Lab, stranger: Api, taken_back: None) -> None:
    health = json.loads(lab.platform.slipway("doctor", "--json"))
    assert health["healthy"], health
    names = [one["name"] for one in health["platform"]["services"] if one["ready"]]
    assert names == ["gateway", "scheduler", "logs", "builder"]
    [worker] = health["platform"]["workers"]
    assert abs(worker["clock_skew_seconds"]) < 1
    for path in ("/api/v1/admin/health/", "/admin/"):
        assert stranger.call("GET", path).status_code in {303, 404}

    take_back(lab)
    frozen = lab.platform.process_id("logs")
    os.kill(frozen, signal.SIGSTOP)
    try:
        time.sleep(1)
        report = json.loads(lab.platform.slipway("doctor", "--json", check=False))
        with pytest.raises(RuntimeError, match="ended with 1"):
            lab.platform.slipway("doctor")
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert not report["healthy"]
    first, *others = [one["what"] for one in report["platform"]["problems"]]
    assert first == "Service logs is not ready."
    assert any(what.endswith("takes nothing new.") for what in others)
