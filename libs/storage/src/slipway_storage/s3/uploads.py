"""Uploads in parts: the XML requests that frame them. Parts themselves go by signed URL, never through
here."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from yarl import URL

from slipway_kit.errors import Invalid, NotFound, Unavailable
from slipway_kit.transfer import TRANSFER_ERRORS, ClientSession, transfer_session
from slipway_storage.s3.signer import S3Signer
from slipway_storage.store import MultipartUpload, OpenUpload, UploadedPart, check_parts

_REQUEST_LIFETIME = timedelta(minutes=5)
# S3 joins the parts before it answers a completion, which may take minutes.
_REQUEST_TIMEOUT_SECONDS = 300


class S3Uploads:
    """The uploads in parts of one store."""

    def __init__(self, signer: S3Signer) -> None:
        self._signer = signer
        self._session: ClientSession | None = None

    async def create(self, key: str, content_type: str | None) -> MultipartUpload:
        """Begin an upload."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        answer = await self._request("POST", key, {"uploads": ""}, headers=headers)
        return MultipartUpload(key=key, upload_id=_text(answer, "UploadId"))

    async def parts(self, upload: MultipartUpload) -> list[UploadedPart]:
        """The parts that the store has, from all pages. Raises `NotFound`."""
        found: list[UploadedPart] = []
        query = {"uploadId": upload.upload_id}
        while True:
            answer = await self._request("GET", upload.key, query)
            found += [
                UploadedPart(
                    number=int(_text(part, "PartNumber")),
                    etag=_text(part, "ETag").strip('"'),
                    size=int(_text(part, "Size")),
                )
                for part in answer.iterfind("{*}Part")
            ]
            if answer.findtext("{*}IsTruncated") != "true":
                return found
            query["part-number-marker"] = _text(answer, "NextPartNumberMarker")

    async def complete(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> None:
        """Join the parts. Raises `Invalid` and `NotFound` as `ObjectStore.complete_multipart` says."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>"
            for part in check_parts(parts)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        await self._request("POST", upload.key, {"uploadId": upload.upload_id}, body=body.encode())

    async def abort(self, upload: MultipartUpload) -> None:
        """Forget the upload; what is over is no error."""
        try:
            await self._request("DELETE", upload.key, {"uploadId": upload.upload_id})
        except NotFound:
            return

    async def list(self, directory: str) -> AsyncIterator[OpenUpload]:
        """Every upload below a directory that is neither completed nor aborted, from all pages."""
        query = {"uploads": "", "prefix": self._signer.full_key(f"{directory}/" if directory else "")}
        while True:
            url = self._signer.sign_bucket("GET", expires=_REQUEST_LIFETIME, query=query)
            answer = await self._send("GET", url, directory)
            for found in answer.iterfind("{*}Upload"):
                key = self._signer.own_key(_text(found, "Key"))
                if key is not None:
                    upload = MultipartUpload(key=key, upload_id=_text(found, "UploadId"))
                    yield OpenUpload(upload, datetime.fromisoformat(_text(found, "Initiated")))
            if answer.findtext("{*}IsTruncated") != "true":
                return
            query["key-marker"] = _text(answer, "NextKeyMarker")
            query["upload-id-marker"] = _text(answer, "NextUploadIdMarker")

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> ET.Element:
        url = self._signer.sign(method, key, expires=_REQUEST_LIFETIME, endpoint="own", query=query, headers=headers)
        return await self._send(method, url, key, headers=headers, body=body)

    async def _send(
        self, method: str, url: str, key: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> ET.Element:
        if self._session is None:
            self._session = transfer_session()
        try:
            async with (
                asyncio.timeout(_REQUEST_TIMEOUT_SECONDS),
                self._session.request(
                    method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                content, status = await response.read(), response.status
        except TRANSFER_ERRORS as error:
            raise Unavailable(
                f"The object store does not answer ({type(error).__name__}). Check its endpoint and try again."
            ) from error
        return _answer(status, content, key)


def _answer(status: int, content: bytes, key: str) -> ET.Element:
    """The XML of an answer. A completion may fail with an error document under status 200."""
    try:
        # Expat limits entity expansion itself; the document comes from the store that the operator
        # configured.
        document = ET.fromstring(content) if content.strip() else ET.Element("Empty")  # noqa: S314
    except ET.ParseError:
        document = ET.Element("Unreadable")
    code = document.findtext("{*}Code") or document.findtext("Code")
    if status < HTTPStatus.BAD_REQUEST and document.tag not in ("Error", "Unreadable"):
        return document
    if code == "NoSuchUpload" or (status == HTTPStatus.NOT_FOUND and code != "NoSuchBucket"):
        raise NotFound(f"The upload of {key!r} is over or was never begun. Begin a new one.")
    if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
        raise Invalid(
            f"The store refused the parts of {key!r}: {code}. List the parts, send what is missing (all "
            f"but the last "
            "have 5 MiB or more) and complete the upload again.",
            field="parts",
        )
    raise Unavailable(
        f"The object store answered {status} {code or 'without a reason'}. Check its endpoint, bucket and credentials."
    )


def _text(element: ET.Element, name: str) -> str:
    text = element.findtext(f"{{*}}{name}")
    if text is None:
        raise Unavailable(f"The object store's answer has no {name}; is its endpoint an S3-compatible service?")
    return text
