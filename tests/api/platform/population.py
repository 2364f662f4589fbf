"""What one person has on the platform: an object of every kind, made as clients and workers make them."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.api.platform.services import Services, as_json

CONFIG = [
    {
        "step": {
            "name": "train",
            "image": "python:3.12",
            "command": ["true"],
            "inputs": [{"name": "data", "optional": True}],
        }
    },
    {
        "endpoint": {
            "name": "serve",
            "image": "python:3.12",
            "server-command": "python app.py",
            "files": [{"name": "model", "path": "model.bin"}],
        }
    },
]
CONTENT = b"weights of a model"


@dataclass
class Machine:
    """A worker: its tokens and what it runs."""

    environment_id: str
    slug: str
    group_token: str
    worker_token: str
    capacity: dict[str, Any]


@dataclass
class Attempt:
    """A running attempt as its worker has it."""

    id: str
    token: str
    api: dict[str, Any]
    """What the container is told: addresses and headers."""


@dataclass
class Served:
    """A deployment with one version, an alias of it, and a key."""

    deployment: str
    version: str
    endpoint: str
    key: str


@dataclass
class Estate:
    """One user and an object of every kind."""

    name: str
    user_id: int
    token: str
    client: httpx.Client
    project: dict[str, Any]
    commit: str
    branch: str
    execution: dict[str, Any]
    datum: dict[str, Any]
    alias: dict[str, Any]
    store: dict[str, Any]
    upload: str
    api_token_id: str
    machine: Machine
    attempt: Attempt
    output_datum: str
    served: "Served"

    def ids(self) -> dict[str, str]:
        """Path parameters by name, as the routes call them."""
        return {
            "project_id": self.project["id"],
            "reference": self.execution["id"],
            "execution_id": self.execution["id"],
            "datum_id": self.datum["id"],
            "alias_id": self.alias["id"],
            "store_id": self.store["id"],
            "upload_id": self.upload,
            "deployment_id": self.served.deployment,
            "version_id": self.served.version,
            "endpoint_id": self.served.endpoint,
            "key_id": self.served.key,
            "identifier": self.commit,
            "owner": self.name,
            "name": self.project["slug"],
        }


def client_of(services: Services, token: str | None, app: str = "public", service: str = "gateway") -> httpx.Client:
    """A client of one app, for a user's token or for nobody."""
    headers = {} if token is None else {"Authorization": f"Token {token}"}
    return httpx.Client(base_url=services.url(service, app), headers=headers, timeout=30)


def _done(answer: httpx.Response) -> Any:
    assert answer.status_code < 300, f"{answer.request.method} {answer.request.url}: {answer.text}"
    return answer.json() if answer.content else None


def add_machine(services: Services, slug: str, owner_id: int | None = None, slots: int = 64) -> Machine:
    """An environment with one worker."""
    capacity = {"slots": slots, "cpus": 256, "memory_bytes": 2**40}
    headers = {"Authorization": f"Bearer {services.service_token('gateway', 'scheduler')}"}
    with httpx.Client(base_url=services.url("scheduler", "internal"), headers=headers) as internal:
        made = _done(
            internal.post("/internal/v1/environments", json={"slug": slug, "name": slug, "owner_id": owner_id})
        )
        group = _done(internal.post(f"/internal/v1/environments/{made['id']}/group-tokens"))["token"]
    body = {
        "machine_id": slug,
        "hostname": slug,
        "agent_version": "1",
        "runtime": "fake",
        "capacity": capacity,
    }
    with httpx.Client(base_url=services.url("scheduler", "workers")) as workers:
        joined = _done(workers.post("/workers/v1/register", json=body, headers={"Authorization": f"Bearer {group}"}))
    return Machine(made["id"], slug, group, joined["worker_token"], capacity)


def start_attempt(services: Services, machine: Machine, execution_id: str) -> Attempt:
    """Take the assignment of an execution and start its user code."""

    def sync(attempts: list[str], facts: list[dict[str, Any]], wait: float = 0) -> dict[str, Any]:
        body = {
            "free": machine.capacity,
            "attempts": [{"attempt_id": one, "phase": "running"} for one in attempts],
            "facts": facts,
            "wait_seconds": wait,
        }
        answer: dict[str, Any] = _done(workers.post("/workers/v1/sync", json=body))
        return answer

    headers = {"Authorization": f"Bearer {machine.worker_token}"}
    with httpx.Client(base_url=services.url("scheduler", "workers"), headers=headers, timeout=30) as workers:
        for _ in range(100):
            found = [one for one in sync([], [], 0.2)["assignments"] if one["document"]["execution_id"] == execution_id]
            if found:
                break
        [assignment] = found
        attempt = assignment["attempt_id"]
        now = datetime.now(UTC).isoformat()
        kinds = enumerate(("accepted", "user_code_started"), start=1)
        sync([attempt], [{"kind": kind, "attempt_id": attempt, "seq": seq, "at": now} for seq, kind in kinds])
    bearer = {"Authorization": f"Bearer {assignment['token']}"}
    with httpx.Client(base_url=services.url("gateway", "workers"), headers=bearer) as gateway:
        api = _done(gateway.post(f"/workers/v1/attempts/{attempt}/materials", json={}))["api"]
    return Attempt(attempt, assignment["token"], api)


def add_commit(services: Services, project_id: str, identifier: str, branch: str) -> None:
    """A commit whose files count as stored."""
    archive = hashlib.sha256(identifier.encode()).hexdigest()
    services.sql(
        "INSERT INTO gateway.archives (sha256, key, format, size, stored_sha256) VALUES ($1, $2, 'tar.zst', 7, $3)"
        " ON CONFLICT DO NOTHING",
        archive,
        f"code/{archive[:2]}/{archive}.tar.zst",
        hashlib.sha256(b"zst").hexdigest(),
    )
    services.sql(
        "INSERT INTO gateway.commits (id, project_id, identifier, ref, commit_time, yaml_path, config, archive_sha256)"
        " VALUES ($1, $2, $3, $4, $5, 'valohai.yaml', $6, $7)",
        uuid4(),
        UUID(project_id),
        identifier,
        branch,
        datetime.now(UTC),
        as_json(CONFIG),
        archive,
    )
    services.sql(
        "INSERT INTO gateway.repository_refs (project_id, kind, name, head) VALUES ($1, 'branch', $2, $3)",
        UUID(project_id),
        branch,
        identifier,
    )


def settle(services: Services, name: str, *, shared: bool = False) -> Estate:
    """Make a user in an organization of the same name with `-org`, and an object of every kind.

    The environment belongs to that organization, so nobody else may use or see it; `shared`: so does the project.
    """
    services.add_organization(f"{name}-org")
    token = services.token_of(name, f"{name}-org")
    client = client_of(services, token)
    user = _done(client.get("/api/v0/users/me/"))
    [organization] = services.sql("SELECT id FROM gateway.accounts WHERE slug = $1", f"{name}-org")
    machine = add_machine(services, f"{name}-environment", organization["id"])
    project = _done(
        client.post("/api/v0/projects/", json={"name": f"{name}-lab", **({"owner": f"{name}-org"} if shared else {})})
    )
    here = {"project": project["id"]}
    commit, branch = hashlib.sha1(name.encode()).hexdigest(), f"{name}-branch"
    add_commit(services, project["id"], commit, branch)
    _done(client.put(f"/api/v0/projects/{project['id']}/repository/", json={"url": f"https://git.test/{name}.git"}))
    _done(client.post(f"/api/v0/projects/{project['id']}/environment_variable/", json={"name": "A", "value": name}))
    owner = project["owner"]["username"]
    _done(client.post(f"/api/v1/owners/{owner}/environment-variable-groups", json={"name": f"{name}-group"}))
    datum = _done(
        client.post(
            "/api/v0/data/upload/", data={**here, "tags": f"{name}-tag"}, files={"file": (f"{name}.bin", CONTENT)}
        )
    )
    alias = _done(client.post("/api/v0/datum-aliases/", json={**here, "name": f"{name}-alias", "datum": datum["id"]}))
    store = _done(client.post("/api/v0/stores/", json={**here, **_store(name)}))
    upload = _done(client.post("/api/v0/data/upload/", json={**here, "name": f"{name}-begun.bin", "size": 5}))["id"]
    request = {**here, "commit": commit, "step": "train", "environment": machine.slug, "tags": [f"{name}-run"]}
    execution = _done(
        client.post("/api/v0/executions/", json={**request, "inputs": {"data": [f"datum://{datum['id']}"]}})
    )
    attempt = start_attempt(services, machine, execution["id"])
    [token_row] = services.sql("SELECT id FROM gateway.tokens WHERE user_id = $1", user["id"])
    return Estate(
        name=name,
        user_id=user["id"],
        token=token,
        client=client,
        project=project,
        commit=commit,
        branch=branch,
        execution=execution,
        datum=datum,
        alias=alias,
        store=store,
        upload=upload,
        api_token_id=str(token_row["id"]),
        machine=machine,
        attempt=attempt,
        output_datum=_add_output(services, attempt, f"{name}-model.bin"),
        served=_serve(services, client, project["id"], commit, datum["id"], name),
    )


def _serve(services: Services, client: httpx.Client, project_id: str, commit: str, datum_id: str, name: str) -> Served:
    """A version whose build fails, for its code has no bytes; so the rows of its alias are made by hand."""
    deployment = _done(client.post("/api/v0/deployments/", json={"project": project_id, "name": f"{name}-serving"}))
    version = _done(
        client.post(
            "/api/v0/deployment-versions/",
            json={
                "deployment": deployment["id"],
                "commit": commit,
                "name": f"{name}-v1",
                "endpoint_configurations": {"serve": {"files": {"model": datum_id}}},
            },
        )
    )
    key = _done(client.post(f"/api/v1/deployments/{deployment['id']}/keys", json={"consumer": f"{name}-shop"}))
    alias_id, here = uuid4(), (UUID(deployment["id"]), f"{name}-alias", UUID(version["id"]))
    services.sql(
        "INSERT INTO builder.aliases (id, deployment_id, name, version_id, canary_percent, sticky, modified_at)"
        " VALUES ($1, $2, $3, $4, 0, true, now())",
        *(alias_id, *here),
    )
    services.sql(
        "INSERT INTO builder.alias_moves (id, alias_id, deployment_id, alias_name, version_id, canary_percent,"
        " actor_id, reason, automatic, revision, at) VALUES ($1, $2, $3, $4, $5, 0, 0, '', false, 1, now())",
        *(uuid4(), alias_id, *here),
    )
    return Served(deployment["id"], version["id"], version["endpoints"][0]["id"], key["id"])


def _add_output(services: Services, attempt: Attempt, name: str) -> str:
    headers = {"Authorization": f"Bearer {attempt.token}"}
    path = f"/workers/v1/attempts/{attempt.id}"
    hashes = {kind: hashlib.new(kind, CONTENT).hexdigest() for kind in ("md5", "sha1", "sha256")}
    with httpx.Client(base_url=services.url("gateway", "workers"), headers=headers) as gateway:
        ticket = _done(gateway.post(f"{path}/uploads", json={"name": name, "size": len(CONTENT)}))
        httpx.put(ticket["url"], content=CONTENT, headers=ticket["headers"]).raise_for_status()
        file = {"datum_id": ticket["datum_id"], "name": name, "size": len(CONTENT), **hashes}
        _done(gateway.post(f"{path}/outputs", json={"files": [file]}))
    datum_id: str = ticket["datum_id"]
    return datum_id


def _store(name: str) -> dict[str, Any]:
    configuration = {
        "bucket": f"{name}-bucket",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "test_configuration": False,
    }
    return {"name": f"{name}-store", "type": "s3", "configuration": configuration}
