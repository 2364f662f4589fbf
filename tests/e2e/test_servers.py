"""Servers of several kinds, each answered through the router by its version's address and by an alias."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from open_inference.openapi.client import InferenceRequest, OpenInferenceClient

from slipway_testing.tools import find_tool
from tests.e2e.support.lab import Lab
from tests.e2e.support.repository import Checkout, git

SERVERS = Path(__file__).parent / "servers"
READY_SECONDS = 180.0
COMPILE_SECONDS = 120.0
GO = find_tool("go")


@dataclass
class Served:
    """A version with all servers, an alias that means it, and a consumer."""

    lab: Lab
    urls: dict[str, tuple[str, str]]
    """By endpoint: the address by version and the one by alias."""
    endpoints: dict[str, str]
    http: httpx.Client


@pytest.fixture(scope="module")
def served(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("servers") / "checkout"
    shutil.copytree(SERVERS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    names = ["flask", "events", "protocol"]
    if GO is not None:
        compile_server(folder)
        names.append("compiled")
    repository = f"servers-{uuid4().hex[:6]}"
    remote = lab.remote.create(repository)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "remote", "add", "origin", str(remote))
    checkout = Checkout(folder)
    head = checkout.commit("Add servers")
    checkout.push()
    project = lab.linked_project(repository, repository)
    deployment = lab.api.post("deployments/", {"project": project, "name": "all"})["id"]
    made = lab.api.post(
        "deployment-versions/",
        {
            "deployment": deployment,
            "commit": head,
            "name": "v1",
            "endpoint_configurations": {name: {"enabled": True, "files": {}} for name in names},
        },
    )
    deadline = time.monotonic() + READY_SECONDS
    while True:
        version = lab.api.get(f"deployment-versions/{made['id']}/")
        if version["status"] == "AVAILABLE":
            break
        said = {one["name"]: (one["status"], one["status_detail"]) for one in version["endpoints"]}
        assert time.monotonic() < deadline, said
        assert not [one for one in said.values() if one[0] == "BUILD_FAILED"], said
        time.sleep(0.3)
    moved = lab.api.call("PUT", f"/api/v1/deployments/{deployment}/aliases/production", json={"version": "v1"})
    assert moved.status_code == 200, moved.text
    key = lab.api.post(f"/api/v1/deployments/{deployment}/keys", {"consumer": "tests"})["key"]
    urls = {name: (url, url.replace("/v1/", "/production/")) for name, url in version["endpoint_urls"].items()}
    ids = {one["name"]: one["id"] for one in version["endpoints"]}
    with httpx.Client(timeout=30, headers={"Authorization": f"Bearer {key}"}) as http:
        yield Served(lab, urls, ids, http)
    lab.api.delete(f"deployments/{deployment}/")


def compile_server(folder: Path) -> None:
    """Make a static program out of the server that is written in Go."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    command = [GO or "go", "build", "-ldflags=-s -w", "-o", "server", "main.go"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=COMPILE_SECONDS)


def test_flask_behind_the_server_that_the_platform_brings(served: Served) -> None:
    for url in served.urls["flask"]:
        answer = served.http.post(f"{url}/double", json={"number": 21})
        assert (answer.status_code, answer.headers["X-Slipway-Version"]) == (200, "v1"), answer.text
        assert answer.json() == {"double": 42, "prefix": f"{httpx.URL(url).path}/"}


def test_what_a_server_prints_is_a_log_and_a_series(served: Served) -> None:
    for number in (1, 2, 3):
        served.http.post(f"{served.urls['flask'][0]}/double", json={"number": number})
    root = f"/api/v1/deployment-endpoints/{served.endpoints['flask']}"
    deadline = time.monotonic() + 20
    while True:
        records = [one["number"] for one in served.lab.api.get(f"{root}/metadata")["items"]]
        if records[-3:] == [1, 2, 3]:
            break
        assert time.monotonic() < deadline, records
        time.sleep(0.3)
    lines = [json.loads(one["text"]) for one in served.lab.api.get(f"{root}/log")["lines"] if "vh_meta" in one["text"]]
    assert lines[-1] == {"vh_metadata": {"number": 3}}
    stream = f"{served.lab.platform.url}/api/v1/streams/deployment-endpoints/{served.endpoints['flask']}/log/"
    token = {"Authorization": f"Token {served.lab.platform.credentials['token']}"}
    with httpx.stream("GET", stream, headers=token, timeout=10) as answer:
        data = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))[-1]["message"] == lines_text(3)


def lines_text(number: int) -> str:
    return json.dumps({"vh_metadata": {"number": number}})


def test_events_arrive_one_by_one(served: Served) -> None:
    for url in served.urls["events"]:
        with served.http.stream("GET", f"{url}/tokens") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            times = [time.monotonic() for line in answer.iter_lines() if line.startswith("data: token")]
        assert len(times) == 4
        assert times[-1] - times[0] > 0.6, "the first came long before the last"


def test_a_client_of_the_open_inference_protocol(served: Served) -> None:
    for url in served.urls["protocol"]:
        client = OpenInferenceClient(base_url=url, httpx_client=served.http)
        client.check_server_liveness()
        client.check_server_readiness()
        assert client.read_model_metadata("sum").inputs[0].datatype == "FP64"
        rows = {"name": "rows", "shape": [2, 2], "datatype": "FP64", "data": [[1.5, 2.0], [3.0, 4.0]]}
        answer = client.model_infer("sum", request=InferenceRequest.parse_obj({"inputs": [rows]}))
        assert answer.outputs[0].dict()["data"] == [3.5, 7.0]


@pytest.mark.go
def test_a_program_that_is_no_python(served: Served) -> None:
    for url in served.urls["compiled"]:
        assert served.http.get(url).text == f"compiled {httpx.URL(url).path}/"


def test_requests_are_counted_by_version_and_alias(served: Served) -> None:
    for url in served.urls["protocol"]:
        assert served.http.get(f"{url}/v2/health/live").status_code == 200
    root = f"/api/v1/deployment-endpoints/{served.endpoints['protocol']}/metrics"
    deadline = time.monotonic() + 30
    while True:
        found = served.lab.api.get(root)
        if found["aliases"] and found["total"]["requests"] > found["aliases"][0]["requests"]:
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert [(one["version"], one["endpoint"]) for one in found["versions"]] == [("v1", "protocol")]
    assert [(one["alias"], one["endpoint"]) for one in found["aliases"]] == [("production", "protocol")]
    assert {one["via"] for one in found["routes"]} == {"v1", "production"}
    assert found["total"]["latency_ms_p99"] is not None
