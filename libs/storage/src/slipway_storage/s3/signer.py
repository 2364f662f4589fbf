"""Signed URLs of one bucket, for each audience its own host."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from urllib.parse import quote

from slipway_kit.clock import Clock
from slipway_storage.config import S3StoreConfig
from slipway_storage.s3.sigv4 import Credentials, encode_path, presign
from slipway_storage.store import Audience, check_lifetime

Endpoint = Literal["own"] | Audience
"""Whose way to the store: `own` is the services'."""


class S3Signer:
    """Signs requests with the store's credentials."""

    def __init__(self, config: S3StoreConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        token = config.session_token
        self._credentials = Credentials(
            config.access_key_id.get_secret_value(),
            config.secret_access_key.get_secret_value(),
            None if token is None else token.get_secret_value(),
        )

    def sign(
        self,
        method: str,
        key: str,
        *,
        expires: timedelta,
        endpoint: Endpoint,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """The URL of one request on one key of the store. Raises `Invalid` for too long a life."""
        return presign(
            method,
            f"{self._bucket_url(endpoint)}/{encode_path(self.full_key(key))}",
            query=query,
            headers=headers,
            credentials=self._credentials,
            region=self._config.region,
            expires_seconds=check_lifetime(expires),
            now=self._clock.now(),
        )

    def sign_bucket(self, method: str, *, expires: timedelta, query: Mapping[str, str]) -> str:
        """The URL of one request of the services on the bucket itself."""
        return presign(
            method,
            f"{self._bucket_url('own')}/",
            query=query,
            credentials=self._credentials,
            region=self._config.region,
            expires_seconds=check_lifetime(expires),
            now=self._clock.now(),
        )

    def own_key(self, full_key: str) -> str | None:
        """The store's name of a key of the bucket; None when it lies outside of the store's prefix."""
        prefix = f"{self._config.prefix}/" if self._config.prefix else ""
        return full_key.removeprefix(prefix) if full_key.startswith(prefix) else None

    def full_key(self, key: str) -> str:
        """The key as the bucket knows it."""
        return f"{self._config.prefix}/{key}" if self._config.prefix else key

    def _bucket_url(self, endpoint: Endpoint) -> str:
        config = self._config
        custom = config.endpoint_url
        if endpoint != "own":
            custom = config.public_endpoint_url or custom
        if endpoint == "worker":
            custom = config.worker_endpoint_url or custom
        if custom is not None:
            return f"{custom}/{config.bucket}"
        if "." in config.bucket:
            # A bucket with dots fits no wildcard certificate as a host name.
            return f"https://s3.{config.region}.amazonaws.com/{config.bucket}"
        return f"https://{config.bucket}.s3.{config.region}.amazonaws.com"


def attachment(filename: str) -> str:
    """A Content-Disposition that saves instead of showing, so that no stored HTML runs on the store's
    origin."""
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
