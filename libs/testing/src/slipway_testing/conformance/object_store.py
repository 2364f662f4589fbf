"""What every `ObjectStore` does, whoever provides it.

A test module subclasses `ObjectStoreConformance` (and `SignedUrlConformance` where the store signs)
as a class named `Test...` and gives the fixture `store`. Stores that sign are reachable under their URLs.
"""

import hashlib
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from yarl import URL

from slipway_kit.errors import Invalid, NotFound
from slipway_kit.transfer import ClientSession, transfer_session
from slipway_storage import MultipartUpload, ObjectStore, UploadedPart
from slipway_storage.transfer import MultipartTicket, PartUrl, PutTicket, download, upload

MINUTE = timedelta(minutes=1)
PART_BYTES = 5 * 1024 * 1024
ILLEGAL_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/.",
    "a\x00b",
    "a\nb",
    "a\x7f",
    "\udcff",
    "é" * 600,
)


class ObjectStoreConformance:
    """Bytes in, bytes out."""

    async def test_round_trip(self, store: ObjectStore) -> None:
        info = await store.put("a/b.txt", b"hello")
        assert (info.key, info.size) == ("a/b.txt", 5)
        assert await store.get("a/b.txt") == b"hello"
        assert await store.head("a/b.txt") == info
        assert info.modified_at.tzinfo is not None

    async def test_put_replaces_and_changes_the_etag(self, store: ObjectStore) -> None:
        first = await store.put("a", b"one")
        second = await store.put("a", b"two")
        assert first.etag != second.etag
        assert await store.get("a") == b"two"

    @pytest.mark.parametrize("key", ["a b/c#d?.txt", "ä/日本.bin", "a%2Fb", "x&y=z+1", "100%", "a*b", "~t/(1)'!.x"])
    async def test_unusual_keys_stay_as_they_are(self, store: ObjectStore, key: str) -> None:
        await store.put(key, key.encode())
        assert await store.get(key) == key.encode()
        assert [info.key async for info in store.list()] == [key]

    @pytest.mark.parametrize("key", ILLEGAL_KEYS)
    async def test_illegal_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(Invalid):
            await store.put(key, b"")
        with pytest.raises(Invalid):
            await store.head(key)
        with pytest.raises(Invalid):
            await store.delete(key)
        assert [info async for info in store.list()] == []

    async def test_put_from_a_stream_and_a_file(self, store: ObjectStore, tmp_path: Path) -> None:
        data = bytes(range(256)) * 40_000

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 300_000):
                yield data[start : start + 300_000]

        assert (await store.put("streamed", chunks())).size == len(data)
        file = tmp_path / "file"
        file.write_bytes(data)
        assert (await store.put("file", file, content_type="application/x-test")).size == len(data)
        assert await store.get("streamed") == await store.get("file") == data

    async def test_a_broken_stream_leaves_nothing(self, store: ObjectStore) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 100_000
            raise ValueError("the source broke")

        with pytest.raises(Exception, match="the source broke"):
            await store.put("broken", broken())
        assert await store.head("broken") is None

    @pytest.mark.parametrize(
        ("start", "end"), [(0, None), (2, 5), (5, None), (0, 0), (9, 99), (10, None), (50, 60), (0, 10)]
    )
    async def test_stream_ranges(self, store: ObjectStore, start: int, end: int | None) -> None:
        await store.put("digits", b"0123456789")
        streamed = b"".join([chunk async for chunk in store.stream("digits", start=start, end=end)])
        assert streamed == b"0123456789"[start:end]

    async def test_an_empty_object(self, store: ObjectStore) -> None:
        assert (await store.put("empty", b"")).size == 0
        assert await store.get("empty") == b""
        assert [chunk async for chunk in store.stream("empty") if chunk] == []

    async def test_what_is_missing(self, store: ObjectStore) -> None:
        assert await store.head("missing") is None
        with pytest.raises(NotFound):
            await store.get("missing")
        with pytest.raises(NotFound):
            _ = [chunk async for chunk in store.stream("missing")]
        await store.delete("missing")
        await store.put("a/b", b"")
        assert await store.head("a") is None

    async def test_list_goes_by_directory(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/b/2", "ab/3", "c"):
            await store.put(key, b"")
        assert {info.key async for info in store.list()} == {"a/1", "a/b/2", "ab/3", "c"}
        assert {info.key async for info in store.list("a")} == {"a/1", "a/b/2"}
        assert {info.key async for info in store.list("a/")} == {"a/1", "a/b/2"}
        assert {info.key async for info in store.list("a/b")} == {"a/b/2"}
        assert [info async for info in store.list("nothing")] == []

    async def test_delete(self, store: ObjectStore) -> None:
        await store.put("a/b", b"")
        await store.put("a/c", b"")
        await store.delete("a/b")
        assert {info.key async for info in store.list()} == {"a/c"}


class SignedUrlConformance:
    """URLs that do what they say, for stores that sign."""

    @pytest.fixture
    async def session(self) -> AsyncIterator[ClientSession]:
        async with transfer_session() as session:
            yield session

    async def test_get_head_and_range(self, store: ObjectStore, session: ClientSession) -> None:
        await store.put("dir/a b+ü.txt", b"0123456789")
        url = URL(await store.sign_get("dir/a b+ü.txt", expires=MINUTE, filename="save as.txt"), encoded=True)
        async with session.get(url) as response:
            assert (response.status, await response.read()) == (200, b"0123456789")
            assert response.headers["Content-Disposition"].startswith("attachment;")
            assert "save%20as.txt" in response.headers["Content-Disposition"]
            assert response.headers["ETag"]
        async with session.get(url, headers={"Range": "bytes=3-5"}) as response:
            assert (response.status, await response.read()) == (206, b"345")
            assert response.headers["Content-Range"] == "bytes 3-5/10"
        async with session.get(url, headers={"Range": "bytes=10-"}) as response:
            assert response.status == 416

    async def test_put(self, store: ObjectStore, session: ClientSession) -> None:
        signed = await store.sign_put("up/ö.bin", expires=MINUTE, size=5)
        async with session.put(URL(signed.url, encoded=True), data=b"hello", headers=signed.headers) as response:
            assert response.status == 200
            etag = response.headers["ETag"].strip('"')
        info = await store.head("up/ö.bin")
        assert info is not None
        assert (info.size, info.etag) == (5, etag)

    async def test_a_missing_object_is_refused(self, store: ObjectStore, session: ClientSession) -> None:
        url = await store.sign_get("missing", expires=MINUTE)
        async with session.get(URL(url, encoded=True)) as response:
            # S3 says 403 where the key may not list the bucket.
            assert response.status in (403, 404)

    @pytest.mark.parametrize("expires", [timedelta(0), timedelta(seconds=-5), timedelta(hours=1)])
    async def test_lifetimes_are_limited(self, store: ObjectStore, expires: timedelta) -> None:
        with pytest.raises(Invalid):
            await store.sign_get("a", expires=expires)

    async def test_upload_and_download_a_file(self, store: ObjectStore, session: ClientSession, tmp_path: Path) -> None:
        data = bytes(range(256)) * 12_345
        (tmp_path / "source").write_bytes(data)
        signed = await store.sign_put("file", expires=MINUTE, size=len(data))
        sent = await upload(session, tmp_path / "source", PutTicket(url=signed.url, headers=signed.headers))
        url = await store.sign_get("file", expires=MINUTE, audience="worker")
        got = await download(
            session,
            url,
            tmp_path / "target",
            expected_size=len(data),
            expected={"sha256": hashlib.sha256(data).hexdigest()},
        )
        assert got.digests == sent.digests
        assert (tmp_path / "target").read_bytes() == data

    async def test_multipart_resumes_with_what_is_missing(
        self, store: ObjectStore, session: ClientSession, tmp_path: Path
    ) -> None:
        data = bytes(range(251)) * 50_000
        source = tmp_path / "source"
        source.write_bytes(data)
        begun = await store.create_multipart("big/file", content_type="application/x-test")
        first = await self._part_url(store, begun, 1)
        async with session.put(
            URL(first.url, encoded=True), data=io.BytesIO(data[:PART_BYTES]), headers=first.headers
        ) as response:
            assert response.status == 200
        assert await store.head("big/file") is None
        done = tuple(await store.list_parts(begun))
        assert [(part.number, part.size) for part in done] == [(1, PART_BYTES)]
        asked: list[int] = []

        async def more(numbers: object) -> list[PartUrl]:
            assert isinstance(numbers, list)
            asked.extend(numbers)
            return [await self._part_url(store, begun, number) for number in numbers]

        sent = await upload(session, source, MultipartTicket(part_bytes=PART_BYTES, done=done), more_parts=more)
        assert asked == [2, 3]
        info = await store.complete_multipart(begun, sent.parts)
        assert info.size == len(data)
        assert hashlib.sha256(await store.get("big/file")).hexdigest() == sent.digests["sha256"]
        with pytest.raises(NotFound):
            await store.list_parts(begun)

    async def test_abort(self, store: ObjectStore) -> None:
        begun = await store.create_multipart("never")
        await store.abort_multipart(begun)
        await store.abort_multipart(begun)
        with pytest.raises(NotFound):
            await store.list_parts(begun)
        assert await store.head("never") is None

    async def test_open_uploads_are_listed(self, store: ObjectStore) -> None:
        uploads = [await store.create_multipart(f"open/{name}") for name in ("a b&c", "ä")]
        other = await store.create_multipart("other")
        found = {one.upload.upload_id: one async for one in store.list_multipart("open")}
        assert {one.upload.key for one in found.values()} == {"open/a b&c", "open/ä"}
        assert all(one.touched_at < datetime.now(UTC) + MINUTE for one in found.values())
        for begun in (*uploads, other):
            assert begun.upload_id in {one.upload.upload_id async for one in store.list_multipart()}
            await store.abort_multipart(begun)
        assert [one async for one in store.list_multipart()] == []

    async def test_completion_wants_the_parts_that_were_sent(self, store: ObjectStore) -> None:
        begun = await store.create_multipart("wrong")
        with pytest.raises(Invalid):
            await store.complete_multipart(begun, [UploadedPart(number=1, etag="0" * 32)])
        with pytest.raises(Invalid):
            await store.complete_multipart(begun, [])
        await store.abort_multipart(begun)

    async def _part_url(self, store: ObjectStore, begun: MultipartUpload, number: int) -> PartUrl:
        signed = await store.sign_part(begun, number, expires=MINUTE, audience="worker")
        return PartUrl(number=number, url=signed.url, headers=signed.headers)
