"""Rows 39, 40 and 63: how runs end, and that outputs written so far are kept."""

import re

import pytest

from tests.e2e.support.api import Json
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab

pytestmark = pytest.mark.vh


def test_stop_interrupts_the_code_and_keeps_its_outputs(lab: Lab, desk: Desk) -> None:
    """Row 39: stopping, then stopped; the code gets SIGINT and time to write."""
    counter = desk.run("slow")
    execution = lab.by_counter(counter)
    lab.api.wait_line(execution, "slow begins")
    answer = desk.vh("exec", "stop", str(counter))
    assert "Done." in answer.both
    assert lab.by_counter(counter)["status"] in ("stopping", "stopped")
    stopped = lab.wait_counter(counter, "stopped")
    assert stopped["end_reason"] == "user"
    assert lab.api.content(lab.api.outputs(stopped)["partial.txt"]) == b"written before the end\n"
    assert lab.api.content(lab.api.outputs(stopped)["interrupted.txt"]) == b"SIGINT\n"
    assert lab.api.lines(stopped)[-1] == "interrupted"
    again = lab.api.post(f"executions/{stopped['id']}/stop/", status=200)
    assert "stopped" in again["message"]


def test_stop_latest_a_range_and_all(lab: Lab, desk: Desk) -> None:
    """Row 39: six executions, four of which run."""
    runs = [lab.run("slow") for _ in range(6)]
    counters = [one["counter"] for one in runs]
    assert counters == list(range(counters[0], counters[0] + 6))
    for one in runs[:4]:
        lab.api.wait(one["id"], {"started"})
    assert lab.api.execution(runs[5]["id"])["status"] == "queued"
    assert "Done." in desk.vh("exec", "stop", "latest").both
    assert lab.api.wait(runs[5]["id"], {"stopped"})["end_reason"] == "user"
    assert all(lab.api.execution(one["id"])["status"] in ("queued", "started") for one in runs[:5])

    desk.vh("exec", "stop", f"{counters[0]}-{counters[2]}")
    for one in runs[:3]:
        lab.api.wait(one["id"], {"stopped"})
    assert lab.api.execution(runs[3]["id"])["status"] == "started"

    desk.vh("exec", "stop", "--all")
    for one in runs:
        assert lab.api.wait(one["id"], {"stopped"})["end_reason"] == "user"
    assert desk.json("exec", "list", "--status", "incomplete") == []


def test_a_second_stop_kills_at_once(lab: Lab) -> None:
    """Beside row 39: code that ignores SIGINT does not keep its worker."""
    ignoring = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf', flush=True)\n"
    run = lab.run("quick", command=[f'python3 -c "{ignoring}time.sleep(300)"'])
    lab.api.wait_line(run, "deaf")
    lab.api.post(f"executions/{run['id']}/stop/", status=200)
    assert lab.api.execution(run["id"])["status"] == "stopping"
    lab.api.post(f"executions/{run['id']}/stop/", status=200)
    assert lab.api.wait(run["id"], {"stopped"}, timeout=10)["end_reason"] == "user"


def test_exit_codes_follow_the_last_command(lab: Lab, desk: Desk) -> None:
    """Row 40: commands after a failing one still run, in the same shell; the last one decides."""
    failing, recovering = desk.run("fail", "--adhoc"), desk.run("recovers", "--adhoc")
    failed = lab.wait_counter(failing, "error")
    assert failed["exit_code"] == 3
    assert failed["end_reason"] == "user_code"
    assert lab.api.lines(failed) == ["after the failure"]
    assert lab.api.output(failed, "kept.txt") == b"kept\n"
    assert "error" in desk.vh("exec", "list", "--status", "error").out
    recovered = lab.wait_counter(recovering)
    assert recovered["exit_code"] == 0
    assert lab.api.lines(recovered) == ["still here with one-shell"]


def test_limits_end_the_run_with_a_reason_and_its_outputs(lab: Lab, desk: Desk) -> None:
    """Row 63: time limit (10 s in the YAML, 2 s by option), silence, and a condition on metadata."""
    counters = {
        "time_limit": desk.run("time-limited", "--adhoc", "--time-limit", "2"),
        "no_output": desk.run("silent", "--adhoc"),
        "stop_condition": desk.run("good-enough", "--adhoc"),
    }
    words = {"time_limit": "time limit", "no_output": "no-output", "stop_condition": "stop condition"}
    for reason, counter in counters.items():
        ended = lab.wait_counter(counter, "stopped")
        assert ended["end_reason"] == reason
        assert lab.api.output(ended, "partial.txt") == b"written before the end\n"
        assert any(words[reason] in line.lower() for line in lab.api.status_lines(ended)), lab.api.status_lines(ended)
    limited = lab.by_counter(counters["time_limit"])
    assert limited["time_limit"] == 2
    assert limited["duration"] < 10
    assert lab.by_counter(counters["stop_condition"])["stop_expression"] == "accuracy >= 0.9"
    assert lab.by_counter(counters["stop_condition"])["cumulative_metadata"]["accuracy"] >= 0.9


def test_a_time_limit_of_the_yaml_reaches_runs_made_by_api(lab: Lab) -> None:
    """Row 63: not in the payload, so it comes from the commit."""
    created: Json = lab.run("time-limited")
    assert created["time_limit"] == 10
    silent = lab.run("silent")
    assert silent["runtime_config"]["no_output_timeout"] == 2
    for one in (created, silent):
        lab.api.post(f"executions/{one['id']}/stop/", status=200)
        assert re.fullmatch(r"stopped", lab.api.wait(one["id"], {"stopped"})["status"])
