"""The local store passes the conformance suite over real HTTP, and its URLs cannot be widened."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from yarl import URL

from slipway_kit.errors import Invalid, Unavailable
from slipway_kit.transfer import ClientSession, transfer_session
from slipway_storage import LocalStore, LocalStoreConfig, local_store_app
from slipway_storage.transfer import PutTicket, download, upload
from slipway_storage.transfer.retries import RetryPolicy
from slipway_testing.conformance.object_store import ObjectStoreConformance, SignedUrlConformance

MINUTE = timedelta(minutes=1)


class MovableClock:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def store(tmp_path: Path, clock: MovableClock) -> AsyncIterator[LocalStore]:
    stores: dict[str, LocalStore] = {}
    async with serving(local_store_app(stores)) as url:
        config = LocalStoreConfig(path=tmp_path / "store", signing_key=SecretStr("k" * 32), public_url=url)
        stores["local"] = LocalStore(config, clock=clock)
        yield stores["local"]


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with transfer_session() as session:
        yield session


class TestLocalStore(ObjectStoreConformance, SignedUrlConformance):
    pass


async def test_tampered_urls_are_refused(store: LocalStore, session: ClientSession) -> None:
    for key in ("a", "b", "a/b"):
        if key != "a/b":
            await store.put(key, b"secret")
    begun = await store.create_multipart("c")
    good = [
        await store.sign_get("a", expires=MINUTE, filename="n"),
        (await store.sign_put("p", expires=MINUTE, size=3)).url,
        (await store.sign_part(begun, 2, expires=MINUTE, size=3)).url,
    ]
    changes = [
        ("/local/a?", "/local/b?"), ("/local/a?", "/local/%2e/a?"), ("/local/a?", "/other/a?"),
        ("op=get", "op=put"), ("op=put", "op=get"), ("op=put", "op=part"), ("op=part", "op=put"),
        ("exp=", "exp=9"), ("exp=", "exp=0"), ("size=3", "size=4"), ("&size=3", ""), ("name=n", "name=m"),
        ("&name=n", ""), ("part=2", "part=1"), ("part=2", "part=02"), ("&part=2", ""), ("sig=", "sig=0"),
        ("op=", "x=1&op="), ("op=", "exp=99999999999&op="), ("/local/p?", "/local/a?"),
        (begun.upload_id, "0" * 32), ("&sig=", "&sig=a&sig="),
    ]  # fmt: skip
    tried = 0
    for url in good:
        candidates = [url.replace(old, new, 1) for old, new in changes if old in url]
        candidates += [url[:-1] + ("0" if url[-1] != "0" else "1"), url[: url.index("&sig=")], url.upper()]
        for candidate in candidates:
            for method in ("GET", "HEAD", "PUT"):
                async with session.request(
                    method, URL(candidate, encoded=True), data=b"abc" if method == "PUT" else None
                ) as response:
                    assert response.status in (403, 404), (method, candidate)
                    tried += 1
    assert tried > 80
    assert await store.get("a") == b"secret"
    assert {info.key async for info in store.list()} == {"a", "b"}


async def test_a_url_serves_its_method_only(store: LocalStore, session: ClientSession) -> None:
    await store.put("a", b"kept")
    read = await store.sign_get("a", expires=MINUTE)
    write = (await store.sign_put("a", expires=MINUTE)).url
    for method, url in (("PUT", read), ("DELETE", read), ("POST", write), ("GET", write), ("DELETE", write)):
        async with session.request(method, URL(url, encoded=True)) as response:
            assert response.status == 403
    assert await store.get("a") == b"kept"


async def test_expired_urls_say_so(store: LocalStore, session: ClientSession, clock: MovableClock) -> None:
    await store.put("a", b"x")
    url = await store.sign_get("a", expires=MINUTE)
    clock.ahead = timedelta(minutes=2)
    async with session.get(URL(url, encoded=True)) as response:
        assert response.status == 403
        assert "expired" in await response.text()


@pytest.mark.parametrize("body", [b"ab", b"abcd"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_signed_size_is_exact(store: LocalStore, session: ClientSession, body: bytes, chunked: bool) -> None:
    signed = await store.sign_put("a", expires=MINUTE, size=3)

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    async with session.put(URL(signed.url, encoded=True), data=chunks() if chunked else body) as response:
        assert response.status == 400
        assert "exactly 3 bytes" in await response.text()
    assert await store.head("a") is None


async def test_html_is_never_shown(store: LocalStore, session: ClientSession) -> None:
    await store.put("page.html", b"<script>alert(1)</script>")
    async with session.get(URL(await store.sign_get("page.html", expires=MINUTE), encoded=True)) as response:
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_symbolic_links_lead_nowhere(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    await store.put("a/b", b"")
    root = store.config.path
    (root / "dir").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    assert await store.head("dir/secret") is None
    assert await store.head("file") is None
    with pytest.raises(Invalid):
        await store.put("dir/new", b"x")
    await store.put("file", b"replaced")
    assert (outside / "secret").read_bytes() == b"secret"
    assert {info.key async for info in store.list()} == {"a/b", "file"}
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


async def test_the_private_directory_is_out_of_reach(store: LocalStore) -> None:
    with pytest.raises(Invalid):
        await store.put(".slipway/uploads/x", b"")
    with pytest.raises(Invalid):
        _ = [info async for info in store.list(".slipway")]


async def test_a_key_below_an_object_is_refused(store: LocalStore) -> None:
    await store.put("a", b"x")
    with pytest.raises(Invalid, match="Choose another name"):
        await store.put("a/b", b"x")
    await store.put("c/d", b"x")
    with pytest.raises(Invalid, match="Choose another name"):
        await store.put("c", b"x")


async def test_sweep_removes_what_was_left_behind(store: LocalStore, clock: MovableClock) -> None:
    await store.put("kept", b"x")
    upload = await store.create_multipart("waiting/for/parts")
    writer = store.open_writer()
    await writer.__aenter__()
    assert await store.sweep(timedelta(days=1)) == 0
    clock.ahead = timedelta(days=2)
    assert await store.sweep(timedelta(days=1)) == 1
    assert await store.get("kept") == b"x"
    # Whether an upload in parts is still wanted, the store cannot know.
    assert [one.upload async for one in store.list_multipart("waiting")] == [upload]
    assert [one async for one in store.list_multipart("wait")] == []
    await writer.__aexit__(None, None, None)


class Flaky:
    """Cuts the answer of the first GETs after some bytes, and refuses the first PUTs."""

    def __init__(self, app: object, failures: int) -> None:
        self.app, self.failures, self.ranges = app, failures, []

    async def __call__(self, scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
        self.ranges.append(dict(scope["headers"]).get(b"range"))
        if self.failures == 0:
            await self.app(scope, receive, send)
            return
        self.failures -= 1
        if scope["method"] == "PUT":
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body"})
            return

        async def cut(message: dict) -> None:  # type: ignore[type-arg]
            if message["type"] == "http.response.body" and message.get("body"):
                await send({**message, "body": message["body"][:70_000]})
                await asyncio.sleep(0.05)
                raise ConnectionResetError("cut by the test")
            await send(message)

        with pytest.raises(ConnectionResetError):
            await self.app(scope, receive, cut)


async def test_transfers_go_on_after_failures(tmp_path: Path, session: ClientSession) -> None:
    stores: dict[str, LocalStore] = {}
    flaky = Flaky(local_store_app(stores), failures=2)
    async with serving(flaky) as url:
        config = LocalStoreConfig(path=tmp_path / "store", signing_key=SecretStr("k" * 32), public_url=url)
        store = stores["local"] = LocalStore(config)
        policy = RetryPolicy(tries=3, first_pause_seconds=0.01)
        source = tmp_path / "source"
        source.write_bytes(bytes(range(256)) * 8_000)
        signed = await store.sign_put("a", expires=MINUTE, size=source.stat().st_size)
        sent = await upload(session, source, PutTicket(url=signed.url), policy=policy)
        flaky.failures, flaky.ranges = 2, []
        got = await download(session, await store.sign_get("a", expires=MINUTE), tmp_path / "got", policy=policy)
        assert got.digests == sent.digests
        assert (tmp_path / "got").read_bytes() == source.read_bytes()
        assert flaky.ranges == [None, b"bytes=70000-", b"bytes=140000-"]
        flaky.failures = 3
        with pytest.raises(Unavailable):
            await upload(session, source, PutTicket(url=signed.url), policy=policy)


async def test_wrong_bytes_do_not_appear(store: LocalStore, session: ClientSession, tmp_path: Path) -> None:
    await store.put("a", b"hello")
    url = await store.sign_get("a", expires=MINUTE)
    with pytest.raises(Invalid):
        await download(session, url, tmp_path / "got", expected={"sha256": "0" * 64})
    with pytest.raises(Invalid):
        await download(session, url, tmp_path / "got", expected_size=4)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
