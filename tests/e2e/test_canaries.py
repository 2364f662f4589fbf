"""No secret is seen anywhere: database, API and pages, log store, the platform's own logs, Valkey, the engine."""

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest
import redis
import zstandard

from slipway_allinone.embedded.account import stored_password
from slipway_allinone.embedded.postgres import ADMIN_ROLE, EmbeddedPostgres
from tests.e2e.support.api import Json
from tests.e2e.support.lab import Lab
from tests.e2e.support.pages import Browser

LINES = 3
ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass
class Canaries:
    """Secret values by what they are for. They have characters that every encoding changes."""

    values: dict[str, str] = field(default_factory=dict)

    def new(self, name: str, *, lines: int = 1) -> str:
        """A new value."""
        value = "\n".join(f"C4n/+{os.urandom(12).hex()}=&% x" for _ in range(lines))
        self.values[name] = value
        return value

    def patterns(self) -> Iterator[tuple[str, bytes]]:
        """What is looked for: each value and each line of it, plain and in other writings."""
        for name, value in self.values.items():
            for text in {value, *value.splitlines()}:
                raw = text.encode()
                yield name, raw
                yield name, raw.hex().encode()
                yield name, base64.b64encode(raw).rstrip(b"=")
                yield name, base64.urlsafe_b64encode(raw).rstrip(b"=")
                yield name, quote(text, safe="").encode()
                yield name, json.dumps(text)[1:-1].encode()
                yield name, raw[5:29]

    def found_in(self, place: str, content: bytes) -> list[str]:
        """Where canaries are in `content`."""
        return sorted({f"{name} in {place}" for name, pattern in self.patterns() if pattern in content})


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def execution(lab: Lab, canaries: Canaries) -> Json:
    """A run that prints every secret that it gets; other secrets are kept beside it. Ends with an error."""
    user = lab.api.get("users/me/")["username"]
    owner = f"/api/v1/owners/{user}"
    put(lab, f"{owner}/environment-variables/OWNED", canaries.new("OWNED"))
    made = lab.api.post(f"{owner}/environment-variable-groups", {"name": f"cloud-{os.urandom(3).hex()}"})
    group = f"{owner}/environment-variable-groups/{made['id']}"
    put(lab, f"{group}/environment-variables/GROUPED", canaries.new("GROUPED"))
    variable = {"name": "KEPT", "value": canaries.new("KEPT", lines=LINES), "secret": True}
    lab.api.post(f"projects/{lab.project}/environment_variable/", variable, status=200)
    keep_other_secrets(lab, canaries)
    keep_a_target(lab, canaries)
    names = ["OWNED", "GROUPED", "KEPT"]
    created = lab.run(
        "quick",
        command=[f"python3 canaries.py {' '.join(names)}"],
        environment_variable_groups=[made["id"]],
    )
    try:
        lab.api.wait_line(created, "canaries are out")
        if lab.platform.runtime == "docker":
            described = inspect(created["id"])
            assert canaries.found_in("docker inspect", described) == []
        ended: Json = lab.api.wait(created["id"], {"error"})
        return ended
    finally:
        lab.api.delete(f"{owner}/environment-variables/OWNED")
        lab.api.call("DELETE", f"projects/{lab.project}/environment_variable/", json={"name": "KEPT"})


def put(lab: Lab, path: str, value: str) -> None:
    answer = lab.api.call("PUT", path, json={"value": value, "secret": True})
    assert answer.json() == {"value": None, "secret": True}, answer.text


def keep_other_secrets(lab: Lab, canaries: Canaries) -> None:
    """The token of a repository, which a fetch uses, and the credentials of a store."""
    name = f"private-{os.urandom(3).hex()}"
    project = lab.api.post("projects/", {"name": name})["id"]
    linked = lab.api.call(
        "PUT",
        f"projects/{project}/repository/",
        json={"url": lab.remote.url("sample"), "username": "git", "token": canaries.new("REPOSITORY")},
    )
    assert linked.status_code == 200, linked.text
    assert lab.api.post(f"projects/{project}/fetch/")["errors"] == []
    wrong = lab.api.call(
        "PUT",
        f"projects/{project}/repository/",
        json={"url": "http://127.0.0.1:1/none.git", "token": canaries.values["REPOSITORY"]},
    )
    assert wrong.status_code == 200
    assert lab.api.post(f"projects/{project}/fetch/")["errors"] != []
    body = {
        "name": name,
        "type": "s3",
        "project": project,
        "configuration": {
            "bucket": "b",
            "access_key_id": canaries.new("STORE_ID"),
            "secret_access_key": canaries.new("STORE_KEY"),
            "test_configuration": False,
        },
    }
    lab.api.post("stores/", body)
    # A value that is refused must not come back in the error, nor be logged.
    refused = lab.api.call(
        "POST",
        f"projects/{lab.project}/environment_variable/",
        json={"name": "1 bad", "value": canaries.new("REFUSED"), "secret": True},
    )
    assert refused.status_code == 400
    assert canaries.found_in("the refusal", refused.content) == []


def keep_a_target(lab: Lab, canaries: Canaries) -> None:
    """The credentials of a cluster and of its registry."""
    user = {"name": "u", "user": {"token": canaries.new("CLUSTER")}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [user],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    registry = {"host": "127.0.0.1:1", "username": "u", "password": canaries.new("REGISTRY")}
    settings = {
        "cluster": {"namespace": "a", "kubeconfig": json.dumps(kubeconfig)},
        "images": {"registry": registry},
    }
    draft = {"name": "canaries", "kind": "kubernetes", "public_url": "http://models.test", "settings": settings}
    target = f"/api/v1/deployment-targets/{lab.api.post('/api/v1/deployment-targets', draft)['id']}"
    shown = lab.api.get(target)["settings"]
    assert (shown["cluster"]["kubeconfig"], shown["images"]["registry"]["password"]) == ("********", "********")
    settings["cluster"]["namespace"] = "not a name"
    for answer in (
        lab.api.call("PATCH", target, json={"settings": settings}),
        lab.api.call("POST", f"{target}/check"),
        lab.api.call("DELETE", target, params={"force": "true"}),
    ):
        assert answer.status_code in (400, 200, 204), answer.text
        assert canaries.found_in(f"the answer {answer.status_code}", answer.content) == []


def inspect(execution_id: str) -> bytes:
    """All that the engine says of the container of an execution."""
    label = f"label=slipway.execution={execution_id}"
    listed = subprocess.run(["docker", "ps", "-q", "-f", label], capture_output=True, check=True, timeout=30)
    (container,) = listed.stdout.decode().split()
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=True, timeout=30)
    top = subprocess.run(["docker", "top", container, "-ef"], capture_output=True, check=True, timeout=30)
    return done.stdout + top.stdout


def test_the_run_had_its_secrets_and_its_log_has_masks(lab: Lab, execution: Json, canaries: Canaries) -> None:
    log = lab.api.raw_log(execution)
    assert log.count(b"*****") > 40, log.decode()
    assert b"OWNED=*****" in log
    assert b"GROUPED=*****" in log
    assert canaries.found_in("the log", log) == []
    assert execution["environment_variables"]["KEPT"] == {"value": None, "secret": True}


def test_no_answer_of_the_api_and_no_page_has_a_secret(lab: Lab, execution: Json, canaries: Canaries) -> None:
    api = lab.api
    user = api.get("users/me/")["username"]
    deployment = api.post("deployments/", {"project": lab.project, "name": "canaries"})["id"]
    version = api.post(
        "deployment-versions/",
        {
            "deployment": deployment,
            "commit": lab.checkout.head,
            "inherit_environment_variables": True,
            "endpoint_configurations": {"broken": {"enabled": True, "files": {}}},
        },
    )
    values = {
        "deployment_id": deployment,
        "version_id": version["id"],
        "endpoint_id": version["endpoints"][0]["id"],
        "reference": execution["id"],
        "execution_id": execution["id"],
        "project_id": lab.project,
        "project": lab.project,
        "identifier": execution["commit"]["identifier"],
        "owner": user,
        "group": api.get(f"/api/v1/owners/{user}/environment-variable-groups")["items"][0]["id"],
        "datum_id": next(iter(api.outputs(execution).values()))["id"],
        "store_id": api.get("stores/")["results"][0]["id"],
        "alias_id": execution["id"],
        "target_id": api.get("/api/v1/deployment-targets")["items"][0]["id"],
        "counter": str(execution["counter"]),
    }
    found, answered = [], 0
    document = api.call("GET", "/openapi.json").json()
    for path, operations in document["paths"].items():
        if "get" not in operations or "/streams/" in path:
            continue
        names = {one["name"] for one in operations["get"].get("parameters", ()) if one["in"] == "path"}
        place = {**values, "reference": "local"} if "/environments/" in path else values
        missing = names - place.keys()
        assert not missing, f"{path}: say what {missing} is"
        url = path.format(**{name: place[name] for name in names})
        for query in ({"limit": "0"}, {"project": lab.project}, {"include": "config"}):
            answer = api.call("GET", url, params=query)
            answered += answer.status_code == 200
            found += canaries.found_in(f"GET {url} {query}", answer.content + str(answer.headers).encode())
    assert found == []
    assert answered > 60
    project = api.get(f"projects/{lab.project}/")
    root = f"/p/{user}/{project['slug']}"
    with Browser(lab.platform.url) as browser:
        browser.login(lab.platform.credentials["username"], lab.platform.credentials["password"])
        pages = ["", "variables/", "executions/", "repository/", "data/", f"execution/{execution['id']}/"]
        for path in [*(f"{root}/{page}" for page in pages), f"/owners/{user}/variables/", "/environments/"]:
            page = browser.page(path)
            assert page.status_code == 200, path
            found += canaries.found_in(path, page.content)
    assert found == []


def test_the_database_has_no_secret(lab: Lab, execution: Json, canaries: Canaries) -> None:
    postgres = EmbeddedPostgres(lab.platform.home)
    dumped = asyncio.run(dump(administrators_url(lab)))
    assert len(dumped) > 20
    assert any(execution["id"].encode() in rows for rows in dumped.values()), "the dump lacks the execution"
    assert [hit for table, rows in dumped.items() for hit in canaries.found_in(table, rows)] == []
    hits = [hit for file in files_of(postgres.data_directory) for hit in canaries.found_in(str(file), read(file))]
    assert hits == [], "in the files of the database, its journal included"


def administrators_url(lab: Lab) -> str:
    """The database of the platform for who may read all of it."""
    settings = json.loads((lab.platform.home / "environments" / "gateway.json").read_text())
    parts = urlsplit(settings["SLIPWAY_GATEWAY__DATABASE__URL"])
    password = stored_password(lab.platform.home, f"postgres-{ADMIN_ROLE}")
    login = f"{ADMIN_ROLE}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=login))


async def dump(url: str) -> dict[str, bytes]:
    """All rows of all tables as text, by table; bytes come as hex and are looked at as bytes too."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        dumped = {}
        for schema, name in tables:
            rows = await connection.fetch(f'SELECT * FROM "{schema}"."{name}"')
            dumped[f"{schema}.{name}"] = b"\n".join(as_bytes(value) for row in rows for value in row.values())
        return dumped
    finally:
        await connection.close()


def as_bytes(value: Any) -> bytes:
    """A value as it is; log lines that are kept in rows are unpacked too."""
    if not isinstance(value, bytes | memoryview):
        return str(value).encode()
    raw = bytes(value)
    return raw + zstandard.ZstdDecompressor().decompressobj().decompress(raw) if raw.startswith(ZSTD) else raw


def test_the_log_store_valkey_and_the_platforms_files_have_no_secret(
    lab: Lab, execution: Json, canaries: Canaries
) -> None:
    home = lab.platform.home
    logs = home / "store" / "logs"
    deadline = time.monotonic() + 60
    while not (kept := [file for file in logs.rglob("*.zst") if execution["id"] in str(file)]):
        assert time.monotonic() < deadline, "the log was not archived"
        time.sleep(0.5)
    archived = b"".join(unpacked(file) for file in kept)
    assert b"canaries are out" in archived
    assert canaries.found_in("the archive", archived) == []

    settings = json.loads((home / "environments" / "gateway.json").read_text())
    found, entries = [], 0
    with redis.Redis.from_url(settings["SLIPWAY_GATEWAY__REDIS__URL"]) as valkey:
        for key in valkey.scan_iter():
            entries += 1
            found += canaries.found_in(f"Valkey {key!r}", contents(valkey, key))
    assert entries > 0
    assert found == []

    files = [file for file in files_of(home) if "keys" not in file.relative_to(home).parts]
    assert any(file.name.endswith(".log") for file in files)
    assert [hit for file in files for hit in canaries.found_in(str(file), read(file))] == []
    volatile = [file for folder in Path("/dev/shm").glob("slipway-*") for file in files_of(folder)]
    assert [hit for file in volatile for hit in canaries.found_in(str(file), read(file))] == []


def contents(valkey: "redis.Redis", key: bytes) -> bytes:
    """All that a key holds."""
    match valkey.type(key):
        case b"stream":
            value: Any = valkey.xrange(key)
        case b"hash":
            value = valkey.hgetall(key)
        case b"list":
            value = valkey.lrange(key, 0, -1)
        case b"set":
            value = valkey.smembers(key)
        case b"zset":
            value = valkey.zrange(key, 0, -1)
        case _:
            value = valkey.get(key)
    return repr(value).encode() + (valkey.dump(key) or b"")


def unpacked(file: Path) -> bytes:
    with (
        file.open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as content,
    ):
        return content.read()


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
