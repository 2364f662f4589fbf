"""The neighbours that other tests rely on: databases, git servers, S3, vh."""

import os
import subprocess
from pathlib import Path

import asyncpg
import boto3
import pytest
import redis.asyncio
from botocore.exceptions import ClientError

from slipway_testing.git_servers import GitHttpServer, GitSshServer, make_ssh_key
from slipway_testing.s3 import S3Server
from slipway_testing.servers import PostgresServer
from slipway_testing.vh import VhRunner


def git(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        ["git", *args],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_TERMINAL_PROMPT": "0", **identity, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def commit(work: Path, size: int = 10) -> str:
    git("init", "-q", "-b", "main", cwd=work)
    (work / "data.bin").write_bytes(os.urandom(size))
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "first", cwd=work)
    return git("rev-parse", "HEAD", cwd=work).stdout.strip()


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_has_its_own_database(database_url: str, turn: int) -> None:
    connection = await asyncpg.connect(database_url, timeout=10)
    await connection.execute("CREATE TABLE mine (n int)")
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'") == turn // turn
    await connection.close()


async def test_databases_are_copies_of_the_template(postgres_server: PostgresServer) -> None:
    source = await postgres_server.create_database("copy_source")
    connection = await asyncpg.connect(source, timeout=10)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    await connection.close()
    copy = await asyncpg.connect(await postgres_server.create_database("copy_target", "copy_source"), timeout=10)
    assert await copy.fetchval("SELECT n FROM kept") == 7
    await postgres_server.drop_database("copy_target")  # with a connection still open
    assert not await postgres_server.has_database("copy_target")
    await copy.close()
    await postgres_server.drop_database("copy_source")


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_has_an_empty_valkey(valkey_url: str, turn: int) -> None:
    async with redis.asyncio.from_url(valkey_url) as client:
        assert await client.incr("turns") == 1


def test_git_over_http_with_a_token(git_http_server: GitHttpServer, tmp_path: Path) -> None:
    git_http_server.create("sample")
    git_http_server.token = "s3cret"
    work = tmp_path / "work"
    work.mkdir()
    head = commit(work, size=3 * 1024 * 1024)  # above http.postBuffer: the client sends chunks
    pushed = git("push", "-q", git_http_server.url("sample", user="x", password="s3cret"), "main", cwd=work)
    assert pushed.returncode == 0, pushed.stderr
    seen = git("ls-remote", git_http_server.url("sample", user="x", password="s3cret"), "main", cwd=work)
    assert seen.stdout.startswith(head)
    refused = git("ls-remote", git_http_server.url("sample", user="x", password="wrong"), cwd=work)
    assert refused.returncode != 0
    assert git("ls-remote", git_http_server.url("sample"), cwd=work).returncode != 0


@pytest.mark.ssh
def test_git_over_ssh_with_a_key(git_ssh_server: GitSshServer, tmp_path: Path) -> None:
    git_ssh_server.create("sample")
    key = make_ssh_key(tmp_path / "key")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(git_ssh_server.known_hosts)
    ssh = f"ssh -i {tmp_path / 'key'} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={known_hosts}"
    work = tmp_path / "work"
    work.mkdir()
    head = commit(work)
    env = {"GIT_SSH_COMMAND": ssh}
    assert git("push", "-q", git_ssh_server.url("sample"), "main", cwd=work, env=env).returncode != 0
    git_ssh_server.authorize(key)
    pushed = git("push", "-q", git_ssh_server.url("sample"), "main", cwd=work, env=env)
    assert pushed.returncode == 0, pushed.stderr
    assert git("ls-remote", git_ssh_server.url("sample"), cwd=work, env=env).stdout.startswith(head)


def put_and_get(server: S3Server) -> bytes:
    client = s3_client(server, server.secret_key)
    client.put_object(Bucket=server.bucket, Key="a/b", Body=b"bytes")
    return client.get_object(Bucket=server.bucket, Key="a/b")["Body"].read()


def s3_client(server: S3Server, secret_key: str):
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key,
        region_name=server.region,
    )


def test_moto_keeps_objects(moto_s3: S3Server) -> None:
    assert put_and_get(moto_s3) == b"bytes"


@pytest.mark.s3
def test_the_real_s3_server_keeps_objects_and_checks_signatures(real_s3: S3Server) -> None:
    assert put_and_get(real_s3) == b"bytes"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3_client(real_s3, "wrong").list_objects_v2(Bucket=real_s3.bucket)


@pytest.mark.vh
def test_vh_is_the_published_one_and_isolated(vh: VhRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALOHAI_TOKEN", "of-the-developer")
    version = vh.run("--version")
    assert version.returncode == 0, version.stderr
    assert "0.37.0" in version.stdout
    assert vh.environment()["HOME"] != os.environ.get("HOME")
    assert "VALOHAI_TOKEN" not in vh.environment()
    imported = vh.run_python("-c", "import valohai; print(valohai.__version__)")
    assert imported.stdout.strip() == "0.8.0", imported.stderr
