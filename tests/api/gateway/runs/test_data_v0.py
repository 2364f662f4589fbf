"""`data/`, `datum-aliases/` and `stores/` of the compatible API."""

import hashlib
from uuid import uuid4

import pytest

CONTENT = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def test_a_form_upload_is_a_file_with_checksums(lab, anonymous) -> None:
    made = await lab.upload("dir/a.csv", CONTENT, tags=["raw"])
    assert (made["name"], made["size"], made["sha256"]) == ("dir/a.csv", len(CONTENT), SHA256)
    assert made["md5"] == hashlib.md5(CONTENT).hexdigest()
    assert made["uri"] is None
    assert made["output_execution"] is None
    for url in (f"/api/v0/data/{made['id']}/", f"/api/v0/data/{made['id']}"):
        assert (await lab.me.get(url)).json()["sha256"] == SHA256
    url = (await lab.me.get(f"/api/v0/data/{made['id']}/download/")).json()["url"]
    answer = await anonymous.get(url)
    assert answer.content == CONTENT
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a.csv"


async def test_a_signed_upload_is_completed_once(lab, anonymous) -> None:
    body = {"project": lab.project["id"], "name": "a.csv", "size": len(CONTENT)}
    begun = (await lab.me.post("/api/v0/data/upload/", json=body)).json()
    early = await lab.me.post(begun["complete"])
    assert early.status_code == 409
    put = await anonymous.put(begun["url"], content=CONTENT, headers=begun["headers"])
    assert put.status_code < 300, put.text
    first = await lab.me.post(begun["complete"], json={"tags": ["t"], "properties": {"k": 1}})
    again = await lab.me.post(begun["complete"])
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"] == begun["id"]
    assert first.json()["sha256"] == SHA256
    assert first.json()["tags"] == ["t"]


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "", "a\nb"])
async def test_bad_names_are_refused(lab, name) -> None:
    body = {"project": lab.project["id"], "name": name, "size": 1}
    answer = await lab.me.post("/api/v0/data/upload/", json=body)
    assert answer.status_code == 400
    assert "name" in answer.json()


async def test_lists_are_filtered_and_paged(lab) -> None:
    for number in range(3):
        await lab.upload(f"file{number}.txt", b"x" * (number + 1), tags=[f"t{number}", "all"])
    url = f"/api/v0/data/?project={lab.project['id']}"

    async def names(query: str) -> list[str]:
        answer = await lab.me.get(f"{url}&{query}")
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["results"]]

    assert await names("ordering=-ctime&limit=100&deleted=false&no_count=true") == [
        "file2.txt",
        "file1.txt",
        "file0.txt",
    ]
    assert await names("tag=t1") == ["file1.txt"]
    assert await names("name=FILE2") == ["file2.txt"]
    assert await names("ordering=size&limit=2&offset=1") == ["file1.txt", "file2.txt"]
    assert await names(f"output_execution={uuid4()}&limit=5000") == []
    assert await names("deleted=True") == []
    assert (await lab.me.get(f"{url}&deleted=maybe")).status_code == 400


async def test_properties_and_tags_are_merged(lab) -> None:
    made = await lab.upload("a", b"1")
    url = f"/api/v0/data/{made['id']}"
    await lab.me.post(f"{url}/metadata/", json={"a": 1, "b": 1})
    merged = await lab.me.post(f"{url}/metadata/", json={"b": 2})
    assert merged.json() == {"a": 1, "b": 2}
    assert (await lab.me.get(f"{url}/metadata/")).json() == {"a": 1, "b": 2}
    await lab.me.post(f"{url}/tags/", json={"tags": ["x", "y"]})
    assert (await lab.me.post(f"{url}/tags/", json={"tags": ["y", "z"]})).json()["tags"] == ["x", "y", "z"]
    assert (await lab.me.post(f"{url}/tags/", json={"tags": ["a,b"]})).status_code == 400


async def test_purging_deletes_the_bytes_and_keeps_the_record(lab, context) -> None:
    made = await lab.upload("a", b"1")
    for _ in range(2):
        purged = await lab.me.post(f"/api/v0/data/{made['id']}/purge/")
        assert purged.status_code == 200
        assert purged.json()["purged"] is True
    assert [one async for one in context.object_store.list("data")] == []
    assert (await lab.me.get(f"/api/v0/data/{made['id']}/download/")).status_code == 409
    refused = await lab.run(inputs={"data": [f"datum://{made['id']}"]})
    assert refused.json()["inputs"][0]["code"] == "not_found"


async def test_strangers_see_nothing(lab, other) -> None:
    made = await lab.upload("a", b"1")
    url = f"/api/v0/data/{made['id']}/"
    for method, path in [("GET", url), ("GET", f"{url}download/"), ("POST", f"{url}purge/")]:
        assert (await other.request(method, path)).status_code == 404
    assert (await other.get("/api/v0/data/")).json()["results"] == []
    body = {"project": lab.project["id"], "name": "x", "size": 1}
    assert (await other.post("/api/v0/data/upload/", json=body)).status_code == 400


async def test_aliases_move_and_are_frozen_at_creation(lab) -> None:
    first, second = await lab.upload("a", b"1"), await lab.upload("b", b"2")
    body = {"project": lab.project["id"], "name": "Best", "datum": first["id"]}
    alias = (await lab.me.post("/api/v0/datum-aliases/", json=body)).json()
    assert alias["datum"]["name"] == "a"
    assert (await lab.me.post("/api/v0/datum-aliases/", json=body)).json()["name"][0]["code"] == "unique"
    run = await lab.created(inputs={"data": ["datum://best"]})
    assert run["inputs"][0]["urls"] == [f"datum://{first['id']}"]
    assert run["inputs"][0]["original_urls"] == ["datum://best"]
    moved = await lab.me.put(alias["url"], json={"datum": f"datum://{second['id']}"})
    assert moved.json()["datum"]["id"] == second["id"]
    resolve = f"/api/v0/datum-aliases/resolve/?project={lab.project['id']}&name="
    assert (await lab.me.get(resolve + "best")).json()["datum"]["id"] == second["id"]
    assert (await lab.me.get(resolve + "worst")).status_code == 404
    listed = (await lab.me.get(f"/api/v0/datum-aliases/?project={lab.project['id']}&limit=100&no_count=true")).json()
    assert [item["name"] for item in listed["results"]] == ["Best"]
    assert (await lab.me.get(f"/api/v0/data/{second['id']}/")).json()["aliases"] == ["Best"]
    assert (await lab.me.delete(alias["url"])).status_code == 204
    assert (await lab.me.get(alias["url"])).status_code == 404


async def test_aliases_of_others_are_invisible(lab, other) -> None:
    made = await lab.upload("a", b"1")
    body = {"project": lab.project["id"], "name": "best", "datum": made["id"]}
    alias = (await lab.me.post("/api/v0/datum-aliases/", json=body)).json()
    assert (await other.get(alias["url"])).status_code == 404
    assert (await other.post("/api/v0/datum-aliases/", json=body)).status_code == 404
    wrong = await lab.me.post("/api/v0/datum-aliases/", json={**body, "name": "n", "datum": str(uuid4())})
    assert wrong.json()["datum"][0]["code"] == "does_not_exist"


async def test_stores_hide_their_credentials(lab, execute, other) -> None:
    configuration = {
        "bucket": "b",
        "region": "eu",
        "endpoint_url": "http://127.0.0.1:1",
        "access_key_id": "key",
        "secret_access_key": "hush",
    }
    body = {"name": "cold", "type": "s3", "configuration": {**configuration, "test_configuration": False}}
    made = (await lab.me.post("/api/v0/stores/", json=body)).json()
    assert made["uri_prefix"] == "s3://b/"
    assert made["configuration"] == {"bucket": "b", "region": "eu", "endpoint_url": "http://127.0.0.1:1"}
    assert "hush" not in str(await lab.me.get(made["url"]))
    changed = await lab.me.put(made["url"], json={"name": "colder"})
    assert changed.json()["name"] == "colder"
    listed = (await lab.me.get("/api/v0/stores/")).json()["results"]
    assert [item["name"] for item in listed] == ["Slipway", "colder"]
    assert (await other.get(made["url"])).status_code == 404
    run = await lab.created(inputs={"data": ["s3://b/x/*.csv"]})
    assert run["inputs"][0]["urls"] == ["s3://b/x/*.csv"]
    assert (await lab.me.delete(made["url"])).status_code == 204
    assert (await lab.me.get(made["url"])).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"type": "azure"}, "type"), ({"configuration": {"bucket": "b"}}, "configuration"), ({"owner": 99}, "owner")],
)
async def test_stores_that_cannot_be_connected_are_field_errors(lab, changes, field) -> None:
    body = {"name": "s", "type": "s3", "configuration": {}} | changes
    answer = await lab.me.post("/api/v0/stores/", json=body)
    assert answer.status_code == 400
    assert answer.json()[field]
