"""The S3 store passes the conformance suite against moto's server, and against a real one where it is named.

A real one: SLIPWAY_TEST_S3_ENDPOINT, SLIPWAY_TEST_S3_ACCESS_KEY, SLIPWAY_TEST_S3_SECRET_KEY (and optionally
SLIPWAY_TEST_S3_REGION); the bucket `slipway-test` is made there.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from yarl import URL

from slipway_kit.transfer import transfer_session
from slipway_storage import ObjectStore, S3StoreConfig, open_store
from slipway_storage.s3.sigv4 import Credentials, presign
from slipway_testing.conformance.object_store import ObjectStoreConformance, SignedUrlConformance

BUCKET = "slipway-test"


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
