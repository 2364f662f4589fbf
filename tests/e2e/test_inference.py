"""A model as an endpoint, by `vh` and over HTTP: version, alias, keys, a second version, rollback, deletion."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from tests.e2e.support.api import Api, Json
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab

READY_SECONDS = 120.0


@dataclass
class Deployment:
    """A deployment of the lab's project, and a consumer of its endpoints."""

    api: Api
    id: str
    name: str
    key: str
    http: httpx.Client

    def ask(self, url: str, key: str | None = None, **options: object) -> httpx.Response:
        """Call an endpoint; with the deployment's own key unless another one is given, `""` = none."""
        key = self.key if key is None else key
        return self.http.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}, **options)  # type: ignore[arg-type]

    def version(self, name: str) -> Json:
        """A version by name."""
        listed = self.api.get("deployment-versions/", deployment=self.id)["results"]
        return next(one for one in listed if one["name"] == name)

    def until(self, name: str, status: str) -> Json:
        """Wait until the only endpoint of a version has a status."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            version = self.version(name)
            (endpoint,) = version["endpoints"]
            if endpoint["status"] == status:
                return version
            assert time.monotonic() < deadline, f"{endpoint['status']}: {endpoint['status_detail']}, not {status}"
            time.sleep(0.2)

    def move(self, alias: str, version: str, status: int = 200) -> Json:
        """Point an alias at a version."""
        answer = self.api.call("PUT", f"/api/v1/deployments/{self.id}/aliases/{alias}", json={"version": version})
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
def deployment(lab: Lab) -> Iterator[Deployment]:
    name = f"greeter-{uuid4().hex[:6]}"
    made = lab.api.post("deployments/", {"project": lab.project, "name": name})
    issued = lab.api.post(f"/api/v1/deployments/{made['id']}/keys", {"consumer": "tests"})
    with httpx.Client(timeout=30) as http:
        yield Deployment(lab.api, made["id"], name, issued["key"], http)
    if lab.api.call("GET", f"deployments/{made['id']}/").status_code == 200:
        lab.api.delete(f"deployments/{made['id']}/")


def upload(lab: Lab, words: str) -> str:
    """A file of the project; gives its id."""
    answer = lab.api.call(
        "POST", "data/upload/", data={"project": lab.project}, files={"file": ("model-of-today.bin", words.encode())}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def create_version(desk: Desk, deployment: Deployment, datum: str) -> str:
    """Row 53 of the contract, by the unmodified `vh`; gives the version's name."""
    before = {one["name"] for one in deployment.api.get("deployment-versions/", deployment=deployment.id)["results"]}
    said = desk.vh(
        *("deployment", "create-version", "-d", deployment.name, "-e", "greet", f"--greet-greeting=datum://{datum}")
    ).both
    assert "Using automatically generated name" in said
    after = {one["name"] for one in deployment.api.get("deployment-versions/", deployment=deployment.id)["results"]}
    (name,) = after - before
    assert name in said
    return name


def test_versions_aliases_and_keys(lab: Lab, desk: Desk, deployment: Deployment) -> None:
    first = create_version(desk, deployment, upload(lab, "good morning"))
    version = deployment.until(first, "AVAILABLE")
    assert version["endpoints"][0]["status_detail"] == "100% - Available"
    url = version["endpoint_urls"]["greet"]
    owner = lab.api.get("users/me/")["username"]
    prefix = f"/{owner}/{lab.name}/{deployment.name}/{first}/greet"
    assert url == f"http://127.0.0.1:{lab.platform.inference_port}{prefix}"
    answer = deployment.ask(f"{url}/predict?x=1")
    assert answer.json() == {"words": "good morning", "path": f"{prefix}/predict?x=1", "prefix": f"{prefix}/"}
    assert answer.headers["X-Slipway-Version"] == first
    assert deployment.ask(url, "").status_code == 401
    assert deployment.ask(url, "wrong").status_code == 403
    assert deployment.ask(url.replace("/greet", "/nothing")).status_code == 404

    assert deployment.move("production", first)["confirmed_routers"] == 1
    alias_url = url.replace(f"/{first}/", "/production/")
    assert deployment.ask(alias_url).json()["prefix"] == f"{prefix}/".replace(first, "production")

    second = create_version(desk, deployment, upload(lab, "good evening"))
    refused = deployment.move("production", second, status=409) if not _ready(deployment, second) else None
    assert refused is None or refused["code"] == "not_ready"
    deployment.until(second, "AVAILABLE")
    assert deployment.ask(alias_url).json()["words"] == "good morning"
    deployment.move("production", second)
    assert deployment.ask(alias_url).json()["words"] == "good evening"
    assert deployment.ask(url).json()["words"] == "good morning", "both versions are live"
    back = lab.api.call("POST", f"/api/v1/deployments/{deployment.id}/aliases/production/rollback")
    assert back.status_code == 200, back.text
    assert deployment.ask(alias_url).json()["words"] == "good morning"
    moves = lab.api.get(f"/api/v1/deployments/{deployment.id}/alias-moves")["items"]
    assert [one["version"] for one in moves] == [first, second, first]

    lab.api.delete(f"deployments/{deployment.id}/")
    deadline = time.monotonic() + 10
    while deployment.ask(url).status_code not in (403, 404):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_broken_server_says_why_and_no_alias_moves_to_it(lab: Lab, deployment: Deployment) -> None:
    made = lab.api.post(
        "deployment-versions/",
        {
            "deployment": deployment.id,
            "commit": lab.checkout.head,
            "name": "broken",
            "endpoint_configurations": {"broken": {"enabled": True, "files": {}}},
        },
    )
    version = deployment.until("broken", "UNAVAILABLE")
    assert "no words today" in version["endpoints"][0]["status_detail"]
    assert made["id"] == version["id"]
    refused = deployment.move("production", "broken", status=409)
    assert refused["code"] == "not_ready"
    assert "no words today" in refused["detail"]


def _ready(deployment: Deployment, name: str) -> bool:
    return bool(deployment.version(name)["endpoints"][0]["status"] == "AVAILABLE")
