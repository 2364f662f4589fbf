"""Signatures, against the published example and against botocore."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from pydantic import SecretStr, TypeAdapter, ValidationError

from slipway_kit.clock import SystemClock
from slipway_storage import LocalStoreConfig, S3StoreConfig, StoreConfig, open_store
from slipway_storage.s3.signer import S3Signer
from slipway_storage.s3.sigv4 import Credentials, encode_path, presign
from slipway_storage.store import MAX_SIGNED_LIFETIME


def test_the_example_of_the_s3_reference() -> None:
    url = presign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        expires_seconds=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize("token", [None, "token/with+signs="])
@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("GET", {"response-content-disposition": "attachment; filename*=UTF-8''a%20b"}, {}),
        ("PUT", {"partNumber": "3", "uploadId": "a/b+c=="}, {"Content-Length": "12"}),
        ("POST", {"uploads": ""}, {"Content-Type": "text/plain"}),
    ],
)
def test_it_signs_as_botocore_does(
    method: str, query: dict[str, str], headers: dict[str, str], token: str | None
) -> None:
    base = f"https://store.example:9000/bucket/{encode_path('a b/ö+(1)~%.txt')}"
    request = AWSRequest(method=method, url=base, params=query, headers=headers)
    S3SigV4QueryAuth(BotocoreCredentials("id", "secret", token), "s3", "eu-north-1", expires=60).add_auth(request)
    theirs = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    ours = presign(
        method,
        base,
        query=query,
        headers=headers,
        credentials=Credentials("id", "secret", token),
        region="eu-north-1",
        expires_seconds=60,
        now=datetime.strptime(theirs["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )
    assert parse_qs(urlsplit(ours).query, keep_blank_values=True) == theirs


def test_each_audience_has_its_host() -> None:
    config = S3StoreConfig(
        bucket="b-1",
        endpoint_url="http://inside:9000/",
        public_endpoint_url="https://public",
        worker_endpoint_url="http://bridge:9000",
        access_key_id=SecretStr("id"),
        secret_access_key=SecretStr("secret"),
        prefix="/p/q/",
    )
    signer = S3Signer(config, SystemClock())
    hosts = {
        audience: signer.sign("GET", "k", expires=MAX_SIGNED_LIFETIME, endpoint=audience).partition("?")[0]
        for audience in ("own", "public", "worker")
    }
    assert hosts == {
        "own": "http://inside:9000/b-1/p/q/k",
        "public": "https://public/b-1/p/q/k",
        "worker": "http://bridge:9000/b-1/p/q/k",
    }
    amazon = S3Signer(
        config.model_copy(update=dict.fromkeys(("endpoint_url", "public_endpoint_url", "worker_endpoint_url"))),
        SystemClock(),
    )
    url = amazon.sign("GET", "k", expires=MAX_SIGNED_LIFETIME, endpoint="worker")
    assert url.startswith("https://b-1.s3.us-east-1.amazonaws.com/p/q/k?")


async def test_local_urls_by_audience(tmp_path: object) -> None:
    config = TypeAdapter(StoreConfig).validate_python(
        {
            "type": "local",
            "path": tmp_path,
            "signing_key": "k" * 32,
            "public_url": "https://s/",
            "worker_url": "http://w",
        }
    )
    store = open_store(config)
    assert (await store.sign_get("k", expires=MAX_SIGNED_LIFETIME)).startswith("https://s/_store/local/k?")
    worker = await store.sign_get("k", expires=MAX_SIGNED_LIFETIME, audience="worker")
    assert worker.startswith("http://w/_store/local/k?")


def test_secrets_are_not_shown() -> None:
    assert "wJalr" not in repr(Credentials("id", "wJalr", "wJalr"))
    config = S3StoreConfig(bucket="bucket", access_key_id=SecretStr("id"), secret_access_key=SecretStr("wJalr"))
    assert "wJalr" not in repr(config) + config.model_dump_json()
    with pytest.raises(ValidationError, match="at least 32"):
        LocalStoreConfig(path="/x", signing_key=SecretStr("short"), public_url="http://x")  # type: ignore[arg-type]
