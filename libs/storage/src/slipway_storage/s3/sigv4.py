"""Pre-signed S3 requests by AWS Signature Version 4, query form.

obstore signs plain requests but takes no query parameters, which parts of uploads (`partNumber`, `uploadId`)
and download names (`response-content-disposition`) need. Algorithm: Amazon S3 API reference, "Authenticating
Requests: Using Query Parameters (AWS Signature Version 4)". The payload is not signed; TLS and CRC32C
protect it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; never shown by `repr`."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def presign(
    method: str,
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    credentials: Credentials,
    region: str,
    expires_seconds: int,
    now: datetime,
) -> str:
    """The URL of one request, good for `expires_seconds` from `now`.

    `url` has an already encoded path and no query. Each of `headers` must be sent with exactly this value.
    """
    parts = urlsplit(url)
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    signed = {name.lower(): value.strip() for name, value in (headers or {}).items()} | {"host": parts.netloc}
    names = ";".join(sorted(signed))
    fields = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_seconds),
        "X-Amz-SignedHeaders": names,
    }
    if credentials.session_token is not None:
        fields["X-Amz-Security-Token"] = credentials.session_token
    canonical_query = "&".join(
        f"{name}={value}" for name, value in sorted((_encode(k), _encode(v)) for k, v in fields.items())
    )
    canonical_headers = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join([method, parts.path, canonical_query, canonical_headers, names, "UNSIGNED-PAYLOAD"])
    to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    signing_key = f"AWS4{credentials.secret_access_key}".encode()
    for step in (stamp[:8], region, "s3", "aws4_request"):
        signing_key = hmac.digest(signing_key, step.encode(), "sha256")
    signature = hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{canonical_query}&X-Amz-Signature={signature}"


def encode_path(path: str) -> str:
    """A key as S3 wants it in the path: every byte but unreserved ones and slashes encoded, once."""
    return quote(path, safe="/-_.~")


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")
