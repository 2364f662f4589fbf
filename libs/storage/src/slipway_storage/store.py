"""The `ObjectStore` protocol: what every provider does, in the words of S3."""

import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from slipway_kit.errors import Invalid

Audience = Literal["public", "worker"]
"""Who will use a signed URL: people and their browsers, or workers. Each may reach the store by another
host."""

MAX_SIGNED_LIFETIME = timedelta(minutes=15)
"""Longest life of a signed URL; who needs longer asks again."""

MAX_PART_NUMBER = 10_000
"""S3's limit on parts of one upload; every provider keeps it so that an upload can move between stores."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object. `etag` is opaque, without quotes, and changes whenever the bytes are replaced."""

    key: str
    size: int
    etag: str
    modified_at: datetime


class SignedPut(BaseModel):
    """Where to PUT bytes, and the headers that must be sent exactly as given."""

    model_config = ConfigDict(frozen=True)

    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class MultipartUpload(BaseModel):
    """An upload that has been created and neither completed nor aborted. Keep it to resume."""

    model_config = ConfigDict(frozen=True)

    key: str
    upload_id: str


class UploadedPart(BaseModel):
    """A part that the store has. `etag` is what the PUT of the part answered, without quotes."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1, le=MAX_PART_NUMBER)
    etag: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload in parts that is neither completed nor aborted, and when it was begun, or last added to."""

    upload: MultipartUpload
    touched_at: datetime


@runtime_checkable
class ObjectStore(Protocol):
    """Bytes under keys. Every provider passes `slipway_testing.conformance.object_store`.

    Keys are checked by `keys.check_key`: a wrong one raises `Invalid`. An object is visible only when all of
    its bytes are stored; a put replaces the whole object. A store that cannot be reached raises
    `Unavailable`.
    """

    async def put(
        self, key: str, data: bytes | AsyncIterable[bytes] | Path, *, content_type: str | None = None
    ) -> ObjectInfo:
        """Store `data` under `key`, replacing what was there."""
        ...

    async def get(self, key: str) -> bytes:
        """All bytes of a small object. Raises `NotFound`."""
        ...

    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `start` up to, not including, `end`; past the end of the object there is nothing. Raises
        `NotFound`."""
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """What is known of an object, or None when there is none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Every object below the directory `prefix` ("" is all), recursively, in no promised order."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; deleting what is not there is no error."""
        ...

    async def sign_get(
        self, key: str, *, expires: timedelta, filename: str | None = None, audience: Audience = "public"
    ) -> str:
        """A URL that reads this one object (GET, HEAD, ranges), saved as `filename` or the key's last
        segment."""
        ...

    async def sign_put(
        self, key: str, *, expires: timedelta, size: int | None = None, audience: Audience = "public"
    ) -> SignedPut:
        """A URL that writes this one object; with `size` the store refuses any other number of bytes."""
        ...

    async def create_multipart(self, key: str, *, content_type: str | None = None) -> MultipartUpload:
        """Begin an upload in parts."""
        ...

    async def sign_part(
        self,
        upload: MultipartUpload,
        number: int,
        *,
        expires: timedelta,
        size: int | None = None,
        audience: Audience = "public",
    ) -> SignedPut:
        """A URL that writes part `number` (from 1). The answer's `ETag` belongs into `complete_multipart`."""
        ...

    async def list_parts(self, upload: MultipartUpload) -> Sequence[UploadedPart]:
        """The parts that the store has, by number: what a resumed upload need not send. Raises `NotFound`."""
        ...

    async def complete_multipart(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> ObjectInfo:
        """Join the parts into the object.

        Raises `Invalid` when a part is missing or differs, `NotFound` when the upload is over: who repeats a
        completion whose answer was lost asks `head`.
        """
        ...

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        """Forget the upload and its parts; aborting what is over is no error."""
        ...

    def list_multipart(self, prefix: str = "") -> AsyncIterator[OpenUpload]:
        """Every upload in parts below the directory `prefix` that is neither completed nor aborted."""
        ...

    async def sweep(self, older_than: timedelta) -> int:
        """Remove what killed processes left half written and nobody touched for so long; how many files.

        Uploads in parts stay: only who began one knows whether it is still wanted.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def check_lifetime(expires: timedelta) -> int:
    """Whole seconds that a signed URL lives. Raises `Invalid` outside of one second to
    `MAX_SIGNED_LIFETIME`."""
    if not timedelta(seconds=1) <= expires <= MAX_SIGNED_LIFETIME:
        raise Invalid(
            f"A signed URL lives between 1 s and {MAX_SIGNED_LIFETIME.total_seconds():.0f} s, not "
            f"{expires.total_seconds():g} s; ask for a new one when it ends.",
            field="expires",
        )
    return int(expires.total_seconds())


def check_part_number(number: int) -> int:
    """A part number that every provider takes. Raises `Invalid`."""
    if not 1 <= number <= MAX_PART_NUMBER:
        raise Invalid(f"Part numbers go from 1 to {MAX_PART_NUMBER}, not {number}.", field="number")
    return number


def check_parts(parts: Sequence[UploadedPart]) -> list[UploadedPart]:
    """The parts by number. Raises `Invalid` when there is none or one is named twice."""
    ordered = sorted(parts, key=lambda part: part.number)
    if not ordered:
        raise Invalid("An upload is completed with at least one part.", field="parts")
    if len({part.number for part in ordered}) != len(ordered):
        raise Invalid("A part is named twice in the list of parts.", field="parts")
    return ordered


def check_filename(filename: str) -> str:
    """A download name that is safe inside a header. Raises `Invalid`."""
    if not filename or "/" in filename or any(unicodedata.category(char).startswith("C") for char in filename):
        raise Invalid(
            "A download's file name is not empty and has neither slashes nor control characters.",
            field="filename",
        )
    return filename
