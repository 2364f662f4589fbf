"""Signed URLs of the local store.

`<base>/_store/<store id>/<key>?op=…&exp=…[&size=…][&name=…][&upload=…&part=…]&sig=…`, where `sig` is the hex
HMAC-SHA256 over all of these fields. The host is not covered: one object may be reached by several.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, urlencode

from slipway_kit.errors import Forbidden

MOUNT_PATH = "/_store"
"""Where the gateway mounts `local_store_app`."""

Operation = Literal["get", "put", "part"]

_OPERATIONS: dict[str, Operation] = {"get": "get", "put": "put", "part": "part"}
_FIELDS = frozenset({"op", "exp", "size", "name", "upload", "part", "sig"})
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What one signed URL allows. `expires_at` is in seconds since the epoch, `size` the exact number of
    bytes."""

    operation: Operation
    store_id: str
    key: str
    expires_at: int
    size: int | None = None
    filename: str | None = None
    upload_id: str | None = None
    part_number: int | None = None

    def signature(self, signing_key: bytes) -> str:
        """HMAC-SHA256 over every field, as hex."""
        fields = [
            "slipway-store-v1",
            self.operation,
            self.store_id,
            self.key,
            self.expires_at,
            self.size,
            self.filename,
            self.upload_id,
            self.part_number,
        ]
        return hmac.new(signing_key, json.dumps(fields).encode(), hashlib.sha256).hexdigest()

    def url(self, base_url: str, signing_key: bytes) -> str:
        """The signed URL below an origin."""
        optional = {
            "size": self.size,
            "name": self.filename,
            "upload": self.upload_id,
            "part": self.part_number,
        }
        query = urlencode(
            {"op": self.operation, "exp": self.expires_at}
            | {name: value for name, value in optional.items() if value is not None}
            | {"sig": self.signature(signing_key)},
            quote_via=quote,
        )
        return f"{base_url}{MOUNT_PATH}/{self.store_id}/{quote(self.key)}?{query}"

    @classmethod
    def read(cls, store_id: str, key: str, query: str) -> tuple[Self, str]:
        """The grant that a URL claims, and its signature, not yet verified. Raises `Forbidden`."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
        except ValueError:
            raise _malformed() from None
        values = dict(pairs)
        if len(values) != len(pairs) or not values.keys() <= _FIELDS or not {"op", "exp", "sig"} <= values.keys():
            raise _malformed()
        operation = _OPERATIONS.get(values["op"])
        if operation is None:
            raise _malformed()
        expires_at = _number(values["exp"])
        grant = cls(
            operation=operation,
            store_id=store_id,
            key=key,
            expires_at=expires_at,
            size=_number(values["size"]) if "size" in values else None,
            filename=values.get("name"),
            upload_id=values.get("upload"),
            part_number=_number(values["part"]) if "part" in values else None,
        )
        return grant, values["sig"]

    def verify(self, signature: str, signing_key: bytes, *, now: float) -> None:
        """Raises `Forbidden` unless the signature is ours and the URL has not expired."""
        if not hmac.compare_digest(self.signature(signing_key).encode(), signature.encode()):
            raise Forbidden("The signature of this URL does not fit. Use the URL exactly as it was given.")
        if now >= self.expires_at:
            raise Forbidden("This URL has expired. Ask for a new one and try again.")


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _malformed()
    return int(text)


def _malformed() -> Forbidden:
    return Forbidden("This is not a URL that Slipway signed. Use the URL exactly as it was given.")
