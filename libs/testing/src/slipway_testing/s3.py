"""S3 servers for tests: moto as a subprocess everywhere, and the real server that the machine names."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import pytest

from slipway_testing.ports import unused_port

if TYPE_CHECKING:
    from subprocess import Popen

START_SECONDS = 30.0


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server is, how to log in, and an empty bucket that only this test uses."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str


@pytest.fixture(scope="session")
def moto_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a moto server, started once per test process on loopback."""
    port = unused_port()
    log = tmp_path_factory.mktemp("moto") / "moto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_for_answer(process, f"{endpoint}/moto-api/", log)
        yield endpoint
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_for_answer(process: "Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"moto does not answer on {url}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.05)


def _with_new_bucket(endpoint: str, access_key: str, secret_key: str, region: str) -> S3Server:
    import boto3  # a quarter of a second that only tests with a bucket pay

    bucket = f"slipway-test-{uuid4().hex[:20]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
    )
    try:
        client.create_bucket(Bucket=bucket)
    finally:
        client.close()
    return S3Server(endpoint, access_key, secret_key, region, bucket)


@pytest.fixture
def moto_s3(moto_endpoint: str) -> S3Server:
    """A new bucket on moto: quick and everywhere, but lax (it checks no signature)."""
    return _with_new_bucket(moto_endpoint, "moto", "moto-secret", "us-east-1")


@pytest.fixture
def real_s3() -> S3Server:
    """A new bucket on the machine's S3 server. Mark tests that use it with `@pytest.mark.s3`."""
    return _with_new_bucket(
        os.environ["SLIPWAY_TEST_S3_ENDPOINT"],
        os.environ["SLIPWAY_TEST_S3_ACCESS_KEY"],
        os.environ["SLIPWAY_TEST_S3_SECRET_KEY"],
        os.environ.get("SLIPWAY_TEST_S3_REGION", "us-east-1"),
    )
