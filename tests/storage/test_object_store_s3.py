"""The S3 store passes the conformance suite against moto's server, and against a real one where it is named.

A real one: SLIPWAY_TEST_S3_ENDPOINT, SLIPWAY_TEST_S3_ACCESS_KEY, SLIPWAY_TEST_S3_SECRET_KEY (and optionally
SLIPWAY_TEST_S3_REGION); the bucket `slipway-test` is made there.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from yarl import URL

from slipway_kit.transfer import transfer_session
from slipway_storage import ObjectStore, S3StoreConfig, open_store
from slipway_storage.s3.sigv4 import Credentials, presign
from slipway_testing.conformance.object_store import ObjectStoreConformance, SignedUrlConformance

BUCKET = "slipway-test"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module", params=["moto", pytest.param("real", marks=pytest.mark.s3)])
def config(request: pytest.FixtureRequest) -> S3StoreConfig:
    if request.param == "moto":
        endpoint, access_key, secret_key = request.getfixturevalue("moto"), "test", "test"
    else:
        endpoint = os.environ["SLIPWAY_TEST_S3_ENDPOINT"]
        access_key = os.environ["SLIPWAY_TEST_S3_ACCESS_KEY"]
        secret_key = os.environ["SLIPWAY_TEST_S3_SECRET_KEY"]
    return S3StoreConfig(
        bucket=BUCKET,
        region=os.environ.get("SLIPWAY_TEST_S3_REGION", "us-east-1"),
        endpoint_url=endpoint,
        access_key_id=SecretStr(access_key),
        secret_access_key=SecretStr(secret_key),
    )


@pytest.fixture
async def store(config: S3StoreConfig) -> AsyncIterator[ObjectStore]:
    url = presign(
        "PUT",
        f"{config.endpoint_url}/{BUCKET}",
        credentials=Credentials(config.access_key_id.get_secret_value(), config.secret_access_key.get_secret_value()),
        region=config.region,
        expires_seconds=60,
        now=datetime.now(UTC),
    )
    async with transfer_session() as session, session.put(URL(url, encoded=True)) as response:
        assert response.status in (200, 409), await response.text()
    store = open_store(config.model_copy(update={"prefix": f"run/{uuid.uuid4()}"}))
    yield store
    for key in [info.key async for info in store.list()]:
        await store.delete(key)
    await store.close()


class TestS3Store(ObjectStoreConformance, SignedUrlConformance):
    pass


@pytest.mark.parametrize("config", [pytest.param("real", marks=pytest.mark.s3)], indirect=True)
async def test_signed_urls_cannot_be_widened(store: ObjectStore) -> None:
    """Another verb, key, time, size, part or upload: the store refuses each. moto checks no signatures."""
    for key in ("a", "b"):
        await store.put(key, b"secret")
    begun, other = await store.create_multipart("c"), await store.create_multipart("d")
    read = await store.sign_get("a", expires=MINUTE, filename="n.txt")
    write = await store.sign_put("p", expires=MINUTE, size=3)
    part = await store.sign_part(begun, 2, expires=MINUTE, size=3)
    changes = [
        *(("/a?", "/b?"), ("/a?", "/%61%2Fx?"), ("/p?", "/a?"), ("/c?", "/d?"), ("/a?", "/?")),
        *(("X-Amz-Expires=60", "X-Amz-Expires=600"), ("X-Amz-Date=2", "X-Amz-Date=3"), ("n.txt", "m.html")),
        *(
            ("partNumber=2", "partNumber=1"),
            (begun.upload_id, other.upload_id),
            ("&X-Amz-Signature=", "&x=1&X-Amz-Signature="),
        ),
        *(
            ("X-Amz-SignedHeaders=content-length%3Bhost", "X-Amz-SignedHeaders=host"),
            ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ),
        ("aws4_request", "aws4_requesT"),
    ]
    tried = 0
    async with transfer_session() as session:
        for url, method in ((read, "GET"), (write.url, "PUT"), (part.url, "PUT")):
            candidates = [url.replace(old, new, 1) for old, new in changes if old in url]
            candidates += [
                url.split("&X-Amz-Signature")[0],
                url.split("?")[0],
                url[:-1] + ("1" if url[-1] == "0" else "0"),
            ]
            assert len(candidates) >= 6
            attempts = [(method, candidate, b"abc") for candidate in candidates]
            attempts += [(verb, url, b"abc") for verb in ("GET", "PUT", "DELETE", "POST") if verb != method]
            attempts += [("PUT", url, b"abcd"), ("PUT", url, b"")] if method == "PUT" else []
            for verb, candidate, body in attempts:
                sent = body if verb in ("PUT", "POST") else None
                async with session.request(verb, URL(candidate, encoded=True), data=sent) as response:
                    assert response.status >= 400, (verb, candidate, response.status)
                    assert b"secret" not in await response.read()
                    tried += 1
        async with session.get(URL(read, encoded=True)) as response:
            assert response.status == 200, "the URL itself is good"
        late = await store.sign_get("a", expires=timedelta(seconds=1))
        await asyncio.sleep(2.1)
        async with session.get(URL(late, encoded=True)) as response:
            assert response.status == 403
    print(f"{tried} widened URLs refused")
    assert {info.key async for info in store.list()} == {"a", "b"}
    for upload in (begun, other):
        await store.abort_multipart(upload)
