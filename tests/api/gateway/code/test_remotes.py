"""Fetching from real git servers: over http, over ssh and from disk, and what is said when that fails."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import text

from slipway_gateway.code.loops import ArchiveLoop
from slipway_gateway.context import Factory

TOKEN = "tok-0123456789abcdef"


async def link(client, project, url: str, **fields: str) -> dict:
    answer = await client.put(f"{project['url']}repository/", json={"url": url, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def fetch(client, project) -> dict:
    answer = await client.post(f"{project['url']}fetch/")
    assert answer.status_code == 201, answer.text
    return answer.json()


async def problem(client, project) -> str:
    found = await fetch(client, project)
    assert found["commits"] == []
    (message,) = found["errors"]
    return message


@pytest.fixture
def over_http(git_http_server, repository) -> Path:
    bare = git_http_server.create("lab")
    repository.git("push", "--quiet", str(bare), "main")
    return bare


@pytest.fixture
def redirector() -> Iterator[tuple[str, list[str]]]:
    """A server that sends every request to `targets[0]`; gives its address."""
    targets: list[str] = []

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", targets[0] + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", targets
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def pinned_name(monkeypatch) -> list[str]:
    """`git.pinned.test` is known to our own resolver only. Gives the lookups of it."""
    loop = asyncio.get_event_loop_policy().get_event_loop()
    real, asked = loop.getaddrinfo, []

    async def getaddrinfo(host, port, **options):
        if host != "git.pinned.test":
            return await real(host, port, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


async def test_http_without_and_with_a_token(me, project, over_http, git_http_server, repository):
    head = repository.git("rev-parse", "HEAD")
    url = git_http_server.url("lab")
    await link(me, project, url)
    assert await fetch(me, project) == {"commits": [{"ref": "main", "identifier": head}], "errors": []}
    git_http_server.token = TOKEN
    assert "asks for a login" in await problem(me, project)
    await link(me, project, url, token="wrong-token")
    message = await problem(me, project)
    assert "refused the token" in message
    assert "wrong-token" not in message
    newer = repository.commit("second", extra__txt="x")
    repository.git("push", "--quiet", str(over_http), "main")
    await link(me, project, url, token=TOKEN)
    assert await fetch(me, project) == {"commits": [{"ref": "main", "identifier": newer}], "errors": []}


async def test_token_is_on_no_disk_and_in_no_process_list(me, project, over_http, git_http_server, settings):
    git_http_server.token = TOKEN
    await link(me, project, git_http_server.url("lab"), token=TOKEN)
    assert (await fetch(me, project))["errors"] == []
    written = [path for path in settings.git.cache_dir.rglob("*") if path.is_file()]
    assert any(path.name == "config" for path in written)
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


async def test_http_failures_are_readable(me, project, over_http, git_http_server, redirector, free_port):
    await link(me, project, git_http_server.url("nothing"))
    assert "no git repository at this address" in await problem(me, project)
    await link(me, project, f"http://127.0.0.1:{free_port}/lab.git")
    assert "cannot be reached" in await problem(me, project)
    await link(me, project, "https://no-such-host.invalid/lab.git")
    assert "cannot be found: check its name" in await problem(me, project)
    address, targets = redirector
    targets.append(git_http_server.base_url)
    seen = len(git_http_server.requests)
    await link(me, project, f"{address}/lab.git")
    assert "another address, which is not followed" in await problem(me, project)
    assert len(git_http_server.requests) == seen


async def test_http_connects_to_the_address_that_was_checked(me, project, over_http, git_http_server, pinned_name):
    await link(me, project, git_http_server.url("lab").replace("127.0.0.1", "git.pinned.test"))
    found = await fetch(me, project)
    assert found["errors"] == []
    assert [item["ref"] for item in found["commits"]] == ["main"]
    assert len(pinned_name) == 1


@pytest.mark.ssh
async def test_ssh_with_the_deploy_key(me, project, repository, git_ssh_server, settings, pinned_name):
    head = repository.git("rev-parse", "HEAD")
    repository.git("push", "--quiet", str(git_ssh_server.create("lab")), "main")
    shown = await link(me, project, git_ssh_server.url("lab"))
    assert "refused the project's deploy key" in await problem(me, project)
    git_ssh_server.authorize(shown["deploy_public_key"])
    assert await fetch(me, project) == {"commits": [{"ref": "main", "identifier": head}], "errors": []}
    known_hosts = settings.git.cache_dir / "known_hosts"
    assert known_hosts.read_text() == git_ssh_server.known_hosts
    await link(me, project, git_ssh_server.url("nothing"))
    assert "no git repository at this address" in await problem(me, project)
    # the same server under a name that only our own resolver knows
    again = await link(me, project, git_ssh_server.url("lab").replace("127.0.0.1", "git.pinned.test"))
    assert again["deploy_public_key"] == shown["deploy_public_key"]
    assert (await fetch(me, project))["errors"] == []
    assert len(pinned_name) == 1
    # a host that shows another key is not trusted
    known_hosts.write_text(git_ssh_server.known_hosts.split()[0] + " " + shown["deploy_public_key"].rsplit(" ", 1)[0])
    await link(me, project, git_ssh_server.url("lab"))
    assert "another key than before" in await problem(me, project)


@pytest.mark.ssh
async def test_unreachable_ssh_host_is_readable(me, project, free_port):
    await link(me, project, f"ssh://git@127.0.0.1:{free_port}/srv/lab.git")
    assert "cannot be reached" in await problem(me, project)


async def test_local_folder_that_is_no_repository(me, project, settings):
    folder = settings.git.allow_local_paths[0] / "empty"
    folder.mkdir()
    await link(me, project, f"file://{folder}")
    assert "no git repository at this address" in await problem(me, project)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "fd::17/lab",
        "-u",
        "--upload-pack=touch",
        "-oProxyCommand=touch@host:x",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-oProxyCommand=touch@host/x",
        "git@host:-x",
        "git@-oProxyCommand=touch:x",
        "https://host/x\ny",
        "https://host/x\r\nHost: other",
        "https://ho\0st/x",
        "http://2130706433/x",
        "http://0x7f000001/x",
        "http://0177.0.0.1/x",
        "http://127.1/x",
        "ssh://git@0x7f.1/x",
        "git@2130706433:x",
        "http://[::1%25lo]/x",
    ],
)
async def test_tricks_in_addresses_are_field_errors(me, project, url):
    answer = await me.put(f"{project['url']}repository/", json={"url": url})
    assert answer.status_code == 400, answer.text
    assert answer.json()["url"][0]["message"]
    assert (await me.get(f"{project['url']}repository/")).status_code == 404


async def test_rows_with_addresses_that_became_wrong_are_not_fetched(me, project, repository, execute, tmp_path):
    await link(me, project, str(repository.path))
    marker = tmp_path / "marker"
    for url in (f"ext::touch {marker}", "--upload-pack=x", "file:///etc", "/etc"):
        await execute("UPDATE gateway.repositories SET url = $1", url)
        assert await problem(me, project)
    assert not marker.exists()


async def test_force_pushed_and_deleted_branches_keep_their_commits(me, project, repository, over_http, context):
    repository.git("checkout", "--quiet", "-b", "work")
    never_head = repository.commit("under the head", train__py="print(1)\n")
    old = repository.commit("the head", train__py="print(2)\n")
    repository.git("push", "--quiet", str(over_http), "work")
    await link(me, project, str(repository.path))
    await fetch(me, project)
    repository.git("reset", "--quiet", "--hard", "HEAD~2")
    new = repository.commit("rewritten", train__py="print(3)\n")
    assert (await fetch(me, project))["commits"] == [{"ref": "work", "identifier": new}]
    repository.git("checkout", "--quiet", "main")
    repository.git("branch", "-D", "work")
    for command in (["reflog", "expire", "--expire=now", "--all"], ["gc", "--quiet", "--prune=now"]):
        repository.git(*command)
    assert await fetch(me, project) == {"commits": [], "errors": []}
    for sha in (old, new, never_head):
        detail = (await me.get(f"/api/v0/commits/{sha}/?project={project['id']}&include=config")).json()
        assert detail["config"][0]["step"]["name"] == "train"
    # the one that was never a head has no archive yet: its objects are in the mirror only
    caller = (await me.get("/api/v0/users/me/")).json()["username"]
    async with context.db.read() as session:
        services = Factory(context, session)
        commit = await services.code.commit_anywhere(await services.accounts.user(caller), never_head)
    assert commit.archive_key is None
    await context.snapshots.ensure_archive(commit)
    assert await ArchiveLoop(context.snapshots).run() == 1
    async with context.db.read() as session:
        archived = await session.scalar(
            text("SELECT archive_sha256 FROM commits WHERE identifier = :sha"), {"sha": never_head}
        )
    assert archived is not None


async def test_same_content_is_stored_once(me, project, repository, context):
    repository.git("checkout", "--quiet", "-b", "twin")
    repository.commit("nothing changed")
    await link(me, project, str(repository.path))
    assert len((await fetch(me, project))["commits"]) == 2
    stored = [item.key async for item in context.object_store.list("code")]
    async with context.db.read() as session:
        heads = (await session.execute(text("SELECT DISTINCT archive_sha256 FROM commits"))).scalars().all()
    assert len(stored) == len(heads)
    second = (await me.post("/api/v0/projects/", data={"name": "second"})).json()
    await link(me, second, str(repository.path))
    await fetch(me, second)
    assert [item.key async for item in context.object_store.list("code")] == stored


async def test_large_files_outside_of_git_are_refused_by_name(me, project, repository):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
    head = repository.commit("lfs", model__bin=pointer, __gitattributes="*.bin filter=lfs\n")
    await link(me, project, str(repository.path))
    (error,) = (await fetch(me, project))["errors"]
    assert head[:12] in error
    assert "model.bin is kept in Git LFS" in error


async def test_mirror_is_a_cache(me, project, repository, settings, context):
    await link(me, project, str(repository.path))
    old = repository.git("rev-parse", "HEAD")
    repository.commit("newer", train__py="print(9)\n")
    await fetch(me, project)
    (mirror,) = (settings.git.cache_dir / "mirrors").iterdir()
    mirror.rename(mirror.with_name("gone"))
    detail = (await me.get(f"/api/v0/commits/{old}/?include=config")).json()
    assert detail["config"][0]["step"]["name"] == "train"


async def test_remote_that_is_away_is_no_crash_when_a_config_is_asked_for(me, project, repository, settings):
    await link(me, project, str(repository.path))
    old = repository.git("rev-parse", "HEAD")
    repository.commit("newer")
    await fetch(me, project)
    (mirror,) = (settings.git.cache_dir / "mirrors").iterdir()
    mirror.rename(mirror.with_name("gone"))
    repository.path.rename(repository.path.with_name("moved"))
    answer = await me.get(f"/api/v0/commits/{old}/?include=config")
    assert answer.status_code == 503
    assert "no git repository" in answer.json()["message"]
