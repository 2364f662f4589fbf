"""Linking and fetching repositories, commits and their snapshots."""

import hashlib
import io
import json
import tarfile

import pytest
import zstandard
from sqlalchemy import text

from slipway_gateway.code.loops import ArchiveLoop
from slipway_gateway.context import Factory


async def fetch(client, project):
    answer = await client.post(f"{project['url']}fetch/")
    assert answer.status_code == 201, answer.text
    return answer.json()


async def commits(client, project) -> list[dict]:
    return (await client.get(f"{project['url']}commits/")).json()


async def test_fetch_reports_new_heads_once(me, linked, repository):
    head = repository.git("rev-parse", "HEAD")
    assert await fetch(me, linked) == {"commits": [{"ref": "main", "identifier": head}], "errors": []}
    assert await fetch(me, linked) == {"commits": [], "errors": []}
    newer = repository.commit("second", extra__txt="x")
    repository.git("branch", "feature/x")
    repository.git("tag", "-a", "v1", "-m", "one")
    found = (await fetch(me, linked))["commits"]
    assert {(item["ref"], item["identifier"]) for item in found} == {
        ("main", newer),
        ("feature/x", newer),
        ("v1", newer),
    }
    listed = await commits(me, linked)
    assert [item["identifier"] for item in listed] == [newer, head]
    assert listed[0]["ref_names"] == ["feature/x", "main", "v1"]
    assert listed[0]["commit_time"].endswith("Z")


async def test_heads_are_archived_once_and_hold_the_files(me, linked, repository, context):
    head = repository.git("rev-parse", "HEAD")
    await fetch(me, linked)
    async with context.db.read() as session:
        rows = (await session.execute(text("SELECT * FROM archives"))).all()
    assert len(rows) == 1
    stored = await context.object_store.get(rows[0].key)
    assert hashlib.sha256(stored).hexdigest() == rows[0].stored_sha256
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
    assert hashlib.sha256(raw).hexdigest() == rows[0].sha256
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert sorted(archive.getnames()) == ["train.py", "valohai.yaml"]
    detail = (await me.get(f"/api/v0/commits/{head}/?include=config")).json()
    assert detail["config"][0]["step"]["parameters"][0]["name"] == "lr"
    assert (await me.get(f"/api/v0/commits/{head}/")).json()["config"] is None


async def test_commits_are_found_by_branch_prefix_and_filters(me, linked, repository):
    head = repository.git("rev-parse", "HEAD")
    await fetch(me, linked)
    for name in (head, "main", head[:10], head.upper()):
        answer = await me.get(f"/api/v0/commits/{name}/?project={linked['id']}")
        assert answer.json()["identifier"] == head
    missing = await me.get(f"/api/v0/commits/{'0' * 40}/?project={linked['id']}")
    assert missing.status_code == 404
    for query, number in (("adhoc=false", 1), ("adhoc=True", 0), ("limit=9000&ordering=-commit_time", 1)):
        page = (await me.get(f"/api/v0/commits/?project={linked['id']}&{query}")).json()
        assert len(page["results"]) == number
    repositories = (await me.get("/api/v0/repositories/")).json()["results"]
    assert repositories[0]["project"]["id"] == linked["id"]
    assert repositories[0]["id"] == (await commits(me, linked))[0]["repository"]


async def test_others_see_neither_repository_nor_commits(me, other, linked, repository):
    await fetch(me, linked)
    head = repository.git("rev-parse", "HEAD")
    for path in ("repository/", "commits/"):
        assert (await other.get(f"{linked['url']}{path}")).status_code == 404
    assert (await other.post(f"{linked['url']}fetch/")).status_code == 404
    assert (await other.get(f"/api/v0/commits/{head}/")).status_code == 404
    assert (await other.get(f"/api/v0/commits/?project={linked['id']}")).status_code == 404
    assert (await other.get("/api/v0/commits/")).json()["results"] == []


async def test_older_commits_are_read_and_archived_at_first_use(me, linked, repository, context):
    old = repository.git("rev-parse", "HEAD")
    repository.commit("newer", train__py="print(2)\n")
    await fetch(me, linked)
    before = next(item for item in await commits(me, linked) if item["identifier"] == old)
    assert before["has_config"] is False
    detail = (await me.get(f"/api/v0/commits/{old}/?project={linked['id']}&include=config")).json()
    assert detail["config"][0]["step"]["name"] == "train"
    async with context.db.read() as session:
        commit = await Factory(context, session).code.commit_anywhere(await user(context, session), old)
    assert commit.archive_key is None
    await context.snapshots.ensure_archive(commit)
    assert await ArchiveLoop(context.snapshots).run() == 1
    assert await ArchiveLoop(context.snapshots).run() == 0
    async with context.db.read() as session:
        archived = await Factory(context, session).code.commit_anywhere(await user(context, session), old)
        events = (
            await session.execute(text("SELECT payload FROM outbox WHERE name = 'gateway.commit.archived'"))
        ).all()
    assert archived.archive_key is not None
    assert [event.payload["archive_key"] for event in events] == [archived.archive_key]
    await context.snapshots.ensure_archive(archived)
    async with context.db.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM outbox")) == 2


async def test_archives_outlive_their_branch(me, linked, repository, context):
    repository.git("checkout", "--quiet", "-b", "doomed")
    head = repository.commit("on a branch", train__py="print(3)\n")
    repository.git("checkout", "--quiet", "main")
    await fetch(me, linked)
    repository.git("branch", "-D", "doomed")
    assert await fetch(me, linked) == {"commits": [], "errors": []}
    detail = (await me.get(f"/api/v0/commits/{head}/?include=config")).json()
    assert detail["has_config"]
    assert detail["ref_names"] == []


async def test_commit_that_cannot_be_archived_ends_with_an_error_event(me, linked, repository, context):
    old = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{old},vendor/lib")
    repository.git("commit", "--quiet", "-m", "submodule")
    broken = repository.git("rev-parse", "HEAD")
    result = await fetch(me, linked)
    assert "vendor/lib" in result["errors"][0]
    async with context.db.read() as session:
        commit = await Factory(context, session).code.commit_anywhere(await user(context, session), broken)
    await context.snapshots.ensure_archive(commit)
    await ArchiveLoop(context.snapshots).run()
    async with context.db.read() as session:
        payload = await session.scalar(text("SELECT payload FROM outbox"))
    assert payload["archive_key"] is None
    assert "submodule" in payload["error"]


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"valohai__yaml": None}, "has no file valohai.yaml"),
        ({"valohai__yaml": "- step:\n    name: [\n"}, "line"),
        ({"valohai__yaml": "- step:\n    name: x\n"}, "not valid"),
    ],
)
async def test_commit_with_bad_yaml_exists_and_says_why(me, linked, repository, files, word):
    head = repository.commit("bad", **files)
    assert (await fetch(me, linked))["errors"] == []
    detail = (await me.get(f"/api/v0/commits/{head}/")).json()
    assert (detail["has_config"], detail["config"]) == (False, None)
    assert word in detail["config_error"]
    refused = await me.get(f"/api/v0/commits/{head}/?include=config")  # vh cannot go on without a config
    assert (refused.status_code, refused.json()["commit"][0]["code"]) == (400, "invalid_config")
    assert word in refused.json()["commit"][0]["message"]


async def test_yaml_path_of_the_project_is_followed(me, linked, repository):
    head = repository.commit("moved", valohai__yaml=None, other__yaml="[]")
    await fetch(me, linked)
    await me.patch(linked["url"], json={"yaml_path": "other.yaml"})
    detail = (await me.get(f"/api/v0/commits/{head}/?project={linked['id']}&include=config")).json()
    assert (detail["config"], detail["yaml_path"]) == ([], "other.yaml")


async def test_fetch_without_a_repository_is_a_field_error(me, project):
    answer = await me.post(f"{project['url']}fetch/")
    assert (answer.status_code, answer.json()["repository"][0]["code"]) == (400, "required")
    assert (await me.get(f"{project['url']}repository/")).status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c id",
        "--upload-pack=id",
        "git://host/x",
        "ftp://host/x",
        "https://user:token@host/x",
        "ssh://-oProxyCommand=id/x",
        "-oProxyCommand=id@host:x",
        "file://other/x",
        "/etc",
        "file:///etc",
        "https:///x",
        "https://host/x?y",
        "https://host:99999/x",
        "a b",
    ],
)
async def test_addresses_that_are_not_taken_are_field_errors(me, project, url):
    answer = await me.put(f"{project['url']}repository/", json={"url": url})
    assert answer.status_code == 400
    assert answer.json()["url"]


async def test_local_links_do_not_lead_out_of_the_allowed_folder(me, project, settings, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (settings.git.allow_local_paths[0] / "link").symlink_to(outside)
    answer = await me.put(f"{project['url']}repository/", json={"url": f"{settings.git.allow_local_paths[0]}/link"})
    assert answer.json()["url"][0]["code"] == "local_path_refused"


async def test_ssh_gets_a_deploy_key_and_secrets_are_never_shown(me, project, context):
    url = f"{project['url']}repository/"
    shown = (await me.put(url, json={"url": "git@github.com:me/lab.git"})).json()
    assert shown["deploy_public_key"].startswith("ssh-ed25519 ")
    shown = (await me.put(url, json={"url": "https://github.com/me/lab.git", "token": "tok-123456"})).json()
    assert shown["has_token"] is True
    assert "tok-123456" not in json.dumps(shown)
    kept = (await me.put(url, json={"url": "https://github.com/me/lab.git", "ref": "dev"})).json()
    assert kept["has_token"] is True
    moved = (await me.put(url, json={"url": "https://evil.example/me/lab.git"})).json()
    assert moved["has_token"] is False
    refused = await me.put(url, json={"url": "git@github.com:me/lab.git", "token": "x"})
    assert refused.json()["token"]


async def user(context, session):
    return await Factory(context, session).accounts.user("me")
