"""Deployments and versions in the compatible API (contract 4.1 to 4.3)."""

from uuid import UUID

from sqlalchemy import text

from slipway_schemas.inference.versions import Bounds
from tests.api.gateway.inference.conftest import CONFIG, SHA, add_commit, upload

UNKNOWN = "00000000-0000-7000-8000-00000000dead"
DEPLOYMENT_KEYS = {
    *("id", "name", "enabled", "ctime", "owner", "project", "target", "target_log_handler_type", "url", "urls"),
    *("version_aliases", "versions"),
}
VERSION_KEYS = {
    *("id", "name", "url", "urls", "deployment", "commit", "creator", "ctime", "mtime", "enabled", "effective_enabled"),
    *("endpoints", "endpoint_urls", "environment_variables"),
}
ENDPOINT_KEYS = {
    *("id", "name", "url", "version", "enabled", "status", "status_detail", "is_ready_to_deploy", "endpoint_url"),
    *("files", "cpu_request", "memory_request", "memory_limit", "node_selector"),
}


async def test_a_deployment_is_made_listed_switched_and_deleted(lab, other, builder):
    made = lab.deployment
    assert made.keys() >= DEPLOYMENT_KEYS
    assert made["urls"]["display"].endswith(f"/p/me/lab/deployment/{made['id']}/")
    listed = (await lab.me.get("/api/v0/deployments/", params={"project": lab.project["id"]})).json()["results"]
    assert [one["name"] for one in listed] == ["main"]
    changed = (await lab.me.patch(made["url"], json={"enabled": False, "public": True})).json()
    assert (changed["enabled"], changed["public"]) == (False, True)
    me = (await lab.me.get("/api/v0/users/me/")).json()["id"]
    assert builder.calls[-1] == (f"PATCH /internal/v1/deployments/{made['id']}", me)
    renamed = await lab.me.put(made["url"], json={"name": "else"})
    assert renamed.status_code == 400
    assert "addresses" in renamed.json()["name"][0]["message"]
    assert (await other.get(made["url"])).status_code == 404
    assert (await other.get("/api/v0/deployments/")).json()["results"] == []
    assert (await lab.me.delete(made["url"])).status_code == 204
    assert (await lab.me.get(made["url"])).status_code == 404


async def test_the_yaml_names_the_target_and_an_unknown_one_is_a_field_error(lab):
    assert lab.deployment["target_name"] == "local"
    lost = await lab.me.post("/api/v0/deployments/", json={"project": lab.project["id"], "name": "lost"})
    assert (lost.status_code, lost.json()["target"][0]["code"]) == (400, "does_not_exist")
    given = {"project": lab.project["id"], "name": "lost", "target": "local", "commit": "main"}
    assert (await lab.me.post("/api/v0/deployments/", json=given)).status_code == 201
    free = await lab.me.post("/api/v0/deployments/", json={"project": lab.project["id"], "name": "not-in-the-yaml"})
    assert free.json()["target_name"] == "local"


async def test_names_that_cannot_be_in_a_url_are_refused(lab):
    for name in ("Main", "a/b", "..", "a" * 65, "-a", "a b", "ä"):
        made = {"project": lab.project["id"], "name": name}
        for answer in (await lab.me.post("/api/v0/deployments/", json=made), await lab.post(name=name)):
            assert answer.status_code == 400
            assert "URL" in answer.json()["name"][0]["message"]


async def test_a_taken_name_is_a_field_error_and_the_same_request_makes_one_thing(lab):
    again = await lab.me.post("/api/v0/deployments/", json={"project": lab.project["id"], "name": "main"})
    assert (again.status_code, again.json()["name"][0]["code"]) == (400, "unique")
    await lab.version(name="v1")
    taken = await lab.post(name="v1")
    assert (taken.status_code, taken.json()["name"][0]["code"]) == (400, "unique")
    headers = {"Idempotency-Key": "once"}
    ids = {
        (await lab.me.post("/api/v0/deployment-versions/", json=lab.body(name="v2"), headers=headers)).json()["id"]
        for _ in range(2)
    }
    assert len(ids) == 1


async def test_the_suggested_name_counts_per_day(lab):
    path = f"/api/v0/deployments/{lab.deployment['id']}/suggest_version_name/"
    first = (await lab.me.get(path)).json()["name"]
    assert first.endswith(".0")
    await lab.version(name=first)
    assert (await lab.me.get(path)).json()["name"] == first[:-1] + "1"


async def test_a_version_has_the_shape_of_the_contract(lab):
    version = await lab.version(name="v1", environment_variables={"GREETING": "hi", "NUMBER": 7, "FLAG": True})
    assert version.keys() >= VERSION_KEYS
    assert version["environment_variables"] == {"GREETING": "hi", "NUMBER": "7", "FLAG": "true"}
    assert version["endpoint_urls"] == {"greet": "http://127.0.0.1:9/me/lab/main/v1/greet"}
    assert version["commit"]["identifier"] == SHA
    assert version["commit"].keys() >= {"ref", "adhoc", "commit_time", "description", "has_config", "urls"}
    assert version["creator"]["username"] == "me"
    [endpoint] = version["endpoints"]
    assert endpoint.keys() >= ENDPOINT_KEYS
    assert endpoint["endpoint_url"] == "http://127.0.0.1:9/me/lab/main/VERSION/greet"
    assert (endpoint["status"], endpoint["cpu_request"], endpoint["node_selector"]) == (
        "BUILDING_IMAGE",
        0.5,
        "disk=ssd",
    )
    assert (endpoint["memory_request"], endpoint["memory_limit"]) == (200, 1000)
    [file] = endpoint["files"]
    assert (file["name"], file["datum"]["id"]) == ("model", lab.model["id"])
    assert "output_execution" in file["datum"]
    assert (await lab.me.get(endpoint["url"])).json() == endpoint
    assert version["status_text"] == "0% - Building image"
    await lab.builder.available(UUID(version["id"]))
    assert (await lab.me.get(version["url"])).json()["status_text"] == "100% - Available"
    listed = (await lab.me.get("/api/v0/deployment-versions/", params={"deployment": lab.deployment["id"]})).json()
    assert [one["name"] for one in listed["results"]] == ["v1"]
    detail = (await lab.me.get(lab.deployment["url"])).json()
    assert [one["name"] for one in detail["versions"]] == ["v1"]


async def test_the_draft_says_what_the_yaml_says(lab, builder):
    await lab.version(endpoint_configurations={"greet": {"files": {"model": f"datum://{lab.model['id']}"}}})
    draft = builder.drafts[-1]
    assert draft.name is None
    assert draft.code.archive_key is not None
    [endpoint] = draft.endpoints
    assert (endpoint.scale.replicas, endpoint.scale.replicas_max) == (1, None)
    spec = endpoint.spec
    assert (spec.image, spec.port, spec.wsgi) == ("python:3.12-slim", 8000, None)
    assert spec.server_command == ("~/.local/bin/uvicorn app:app --host 0.0.0.0",)
    assert spec.resources.cpu == Bounds(min=0.5, max=2)
    assert spec.resources.memory_bytes == Bounds(min=200 * 2**20, max=1000 * 2**20)
    assert spec.resources.ephemeral_storage_bytes == Bounds(min=10 * 2**20, max=20 * 2**20)
    assert spec.resources.devices == {"nvidia.com/gpu": 1}
    assert (spec.tolerations[0].key, spec.tolerations[0].effect) == ("gpu", "NoSchedule")
    assert spec.workspace_volume is not None
    assert (spec.workspace_volume.mount_path, spec.workspace_volume.size_gib) == ("/scratch", 5)
    assert (spec.shared_volumes[0].claim, spec.shared_volumes[0].read_only) == ("models", True)
    [file] = spec.files
    assert (file.path, str(file.datum_id), file.size) == ("models/model.bin", lab.model["id"], 7)
    assert file.sha256 == lab.model["sha256"]
    assert draft.metadata["project"]["name"] == "lab"
    assert draft.metadata["commit"]["identifier"] == SHA
    assert draft.metadata["datums"][lab.model["id"]]["name"] == "model.bin"


async def test_variables_of_the_version_win_and_secrets_go_by_reference(lab, builder):
    url = f"/api/v0/projects/{lab.project['id']}/environment_variable/"
    for name, value, secret in (("A", "project", False), ("B", "project", False), ("TOKEN", "hunter22", True)):
        await lab.me.post(url, json={"name": name, "value": value, "secret": secret})
    version = await lab.version(environment_variables={"A": "version"}, inherit_environment_variables=True)
    variables = builder.drafts[-1].environment_variables
    assert (variables["A"].value, variables["B"].value) == ("version", "project")
    assert variables["TOKEN"].value is None
    assert variables["TOKEN"].secret is not None
    assert builder.drafts[-1].own_variables == {"A": "version"}
    assert version["environment_variables"] == {"A": "version"}
    await lab.version(environment_variables={"A": ""}, inherit_environment_variables=False)
    assert {name: one.value for name, one in builder.drafts[-1].environment_variables.items()} == {"A": ""}


async def test_what_is_wrong_is_told_at_creation_by_field(lab, other, execute, builder):
    foreign_project = (await other.post("/api/v0/projects/", data={"name": "theirs"})).json()
    foreign = await upload(other, foreign_project["id"], "secret.bin", b"x")
    purged = await lab.upload("old.bin", b"old")
    await lab.me.post(f"/api/v0/data/{purged['id']}/purge/")
    drafts = len(builder.drafts)
    cases = [
        ({"deployment": UNKNOWN}, "deployment", "does not exist"),
        ({"commit": "nothing"}, "commit", "not known"),
        ({"endpoint_configurations": {}}, "endpoint_configurations", "at least one endpoint"),
        ({"endpoint_configurations": {"gone": {}}}, "endpoint_configurations", "no endpoint 'gone'; it has: greet"),
        ({"endpoint_configurations": {"greet": {}}}, "endpoint_configurations", "the file model has no datum"),
        (files(UNKNOWN), "endpoint_configurations", "does not exist in this project, or was purged"),
        (files(foreign["id"]), "endpoint_configurations", "does not exist in this project, or was purged"),
        (files(purged["id"]), "endpoint_configurations", "does not exist in this project, or was purged"),
        (files(lab.model["id"], odd=lab.model["id"]), "endpoint_configurations", "declares no file 'odd'"),
        ({"environment_variables": {"1A": "x"}}, "environment_variables", "starts with a letter"),
        ({"environment_variables": {"A": "x" * 70_000}}, "environment_variables", "at most"),
        ({"aliases": ["A B"]}, "aliases", "URL"),
        ({"name": "v1", "aliases": ["v1"]}, "aliases", "own name"),
        (scaled(replicas=3, replicas_max=1), "endpoint_configurations", "below replicas"),
    ]
    for changes, field, said in cases:
        answer = await lab.post(**changes)
        assert answer.status_code == 400, (changes, answer.text)
        assert said in answer.json()[field][0]["message"], (changes, answer.text)
    assert len(builder.drafts) == drafts


def files(model: str, **more: str) -> dict:
    return {"endpoint_configurations": {"greet": {"files": {"model": model, **more}}}}


def scaled(**scale: int) -> dict:
    return {"endpoint_configurations": {"plain": scale}}


async def test_a_yaml_that_leads_out_of_the_tree_is_refused(lab, execute):
    wrong = {
        "files": [
            ([{"name": "a", "path": "../etc/passwd"}], "not a path inside"),
            ([{"name": "a", "path": "/etc/passwd"}], "not a path inside"),
            ([{"name": "a", "path": "x/../../y"}], "not a path inside"),
            ([{"name": "a", "path": "valohai-metadata.json"}], "not a path inside"),
            ([{"name": "a", "path": "m"}, {"name": "b", "path": "m/n"}], "do not fit together"),
        ],
        "port": [(80, "port is a number from 1025"), (70_000, "port is a number"), (8000.5, "port is a number")],
        "image": [("no image", "is no image"), ("registry.test/UPPER:1", "is no image")],
        "wsgi": [("app:", "wsgi is a module"), ("app; rm -rf /", "wsgi is a module")],
        "node-selector": [("a=b=c", "node-selector"), ("=x", "node-selector")],
        "resources": [
            ({"cpu": {"min": 2, "max": 1}}, "above its max"),
            ({"memory": {"min": "much"}}, "a number of 0 or more"),
            ({"devices": {"gpu": -1}}, "whole number"),
        ],
        "workspace-volume": [({"mount-path": "/valohai", "size": 1}, "hides neither"), ({"mount-path": "/s"}, "size")],
        "shared-volumes": [([{"pvc-name": "a", "mount-path": "/a/../.."}], "leaves its place")],
        "tolerations": [([{"key": "a", "effect": "Never"}], "tolerations have")],
    }
    number = 0
    for key, values in wrong.items():
        for value, said in values:
            number += 1
            sha = f"{number:040x}"
            endpoint = {"name": "odd", "image": "a:1", "wsgi": "app:application", key: value}
            await add_commit(execute, lab.project["id"], sha, [{"endpoint": endpoint}], ref=f"odd-{number}")
            given = {one["name"]: lab.model["id"] for one in endpoint.get("files", ())}
            answer = await lab.post(commit=sha, endpoint_configurations={"odd": {"files": given}})
            assert answer.status_code == 400, (key, value, answer.text)
            messages = [one["message"] for one in answer.json()["endpoint_configurations"]]
            assert any(said in one for one in messages), (key, value, messages)


async def test_a_file_that_is_too_large_for_an_image_is_refused(lab, execute):
    await execute("UPDATE gateway.datums SET size = $1 WHERE id = $2", 20 * 2**30, UUID(lab.model["id"]))
    answer = await lab.post()
    assert answer.status_code == 400
    [problem] = answer.json()["endpoint_configurations"]
    assert problem["code"] == "too_large"
    assert "from a volume" in problem["message"]


async def test_a_commit_of_another_project_is_not_found(lab, other, execute):
    foreign = (await other.post("/api/v0/projects/", data={"name": "theirs"})).json()
    await add_commit(execute, foreign["id"], "e" * 40, CONFIG)
    answer = await lab.post(commit="e" * 40)
    assert (answer.status_code, answer.json()["commit"][0]["code"]) == (400, "does_not_exist")


async def test_a_missing_archive_is_asked_for_after_the_version_is_made(lab, execute, context):
    await add_commit(execute, lab.project["id"], "f" * 40, CONFIG, archived=False, ref="new")
    await lab.version(commit="f" * 40)
    assert lab.builder.drafts[-1].code.archive_key is None
    async with context.db.read() as session:
        wanted = await session.scalar(
            text("SELECT archive_wanted_at FROM commits WHERE identifier = :i"), {"i": "f" * 40}
        )
    assert wanted is not None


async def test_versions_and_endpoints_are_switched_scaled_and_deleted(lab, other):
    version = await lab.version(endpoint_configurations={"plain": {"replicas": 2}})
    [endpoint] = version["endpoints"]
    assert endpoint["replicas_wanted"] == 2
    off = (await lab.me.patch(version["url"], json={"enabled": False})).json()
    assert (off["enabled"], off["effective_enabled"]) == (False, False)
    scaled_up = (await lab.me.patch(endpoint["url"], json={"replicas": 3, "replicas_max": 6})).json()
    assert (scaled_up["replicas"], scaled_up["replicas_max"]) == (3, 6)
    fixed = (await lab.me.put(endpoint["url"], json={"replicas_max": 3, "enabled": False})).json()
    assert (fixed["replicas"], fixed["replicas_max"], fixed["enabled"]) == (3, None, False)
    wrong = await lab.me.patch(endpoint["url"], json={"replicas": 5, "replicas_max": 2})
    assert (wrong.status_code, list(wrong.json())) == (400, ["replicas_max"])
    for method in ("get", "patch", "delete"):
        assert (await getattr(other, method)(version["url"])).status_code == 404
    assert (await other.patch(endpoint["url"], json={"replicas": 0})).status_code == 404
    assert (await lab.me.delete(version["url"])).status_code == 204
    assert (await lab.me.get(endpoint["url"])).status_code == 404


async def test_a_builder_that_is_away_is_said_so(lab, served_builder):
    await served_builder.stop()
    answer = await lab.post()
    assert answer.status_code == 503
    assert "builder" in answer.json()["message"]
    assert (await lab.me.get(lab.deployment["url"])).status_code == 200
