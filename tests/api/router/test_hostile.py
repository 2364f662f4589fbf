"""Requests that two servers may read in two ways: no request that was not checked may reach a pod."""

import asyncio
import contextlib

import pytest

from slipway_testing.wire import Wire, WireAnswer, request
from tests.api.router.support import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _answers(site: Site, raw: bytes) -> list[WireAnswer]:
    """Every answer to some bytes."""
    answers: list[WireAnswer] = []
    async with Wire(site.router.port, timeout=1.0) as wire:
        await wire.send(raw)
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            while True:
                answers.append(await wire.answer())
    return answers


async def test_no_request_hides_in_another(site: Site) -> None:
    await site.put(site.route("open", site.first()), site.route("closed", site.second(), public=False))
    hidden = request("GET", f"{site.path('closed')}/hidden", "X-Api-Key: none")
    post = f"POST {site.path('open')}/echo HTTP/1.1\r\nHost: a\r\n".encode()
    length, zero = f"Content-Length: {len(hidden) + 5}\r\n".encode(), b"0\r\n\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    attempts = {
        "CL.TE": post + length + b"Transfer-Encoding: chunked\r\n\r\n" + zero + hidden,
        "TE.CL": post + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + zero + hidden,
        "TE.TE": post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + zero + hidden,
        "odd TE": post + b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n" + zero + hidden,
        "TE tab": post + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + zero + hidden,
        "two lengths": post + b"Content-Length: 0\r\n" + length + b"\r\n" + zero + hidden,
        "signed length": post + b"Content-Length: +5\r\n\r\n" + zero + hidden,
        "space in name": post + b"Content-Length : 5\r\n\r\n" + zero + hidden,
        "folded": post + b"X: a\r\n Content-Length: 5\r\n\r\n" + zero + hidden,
        "bad chunk": post + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + hidden,
        "NUL": post + b"X: a\x00b\r\n\r\n" + hidden,
        "bare LF": post + b"X: a\nContent-Length: 5\r\n\r\n" + zero + hidden,
        "dropped length": post + b"Connection: Content-Length\r\n" + length + b"\r\n" + zero + hidden,
        "h2c": post.replace(b"POST", b"GET") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + hidden,
        "upgrade with chunks": post + upgrade + b"Transfer-Encoding: chunked\r\n\r\n" + zero + hidden,
        "upgrade with length": post + upgrade + length + b"\r\n" + zero + hidden,
        "websocket": request(
            "GET", f"{site.path('open')}/echo", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ) + hidden,
    }  # fmt: skip
    for name, raw in attempts.items():
        before = len(site.two.seen)
        answers = await _answers(site, raw)
        assert all(one.status in (200, 400, 401, 403, 501) for one in answers), name
        assert len(site.two.seen) == before, name
        assert not [one for one in site.one.seen if "hidden" in one.target], name
    assert (await site.router.get(f"{site.path('open')}/echo")).status == 200


async def test_requests_in_one_write_are_each_checked_and_answered_in_order(site: Site) -> None:
    await site.put(site.route("open", site.first()), site.route("closed", site.second(), public=False))
    targets = ["open", "closed", "open", "nowhere", "open"]
    raw = b"".join(request("POST", f"{site.path(name)}/echo", body=b"abc") for name in targets)
    answers = await _answers(site, raw)
    assert [one.status for one in answers] == [200, 401, 200, 404, 200]
    assert [one.json()["body_bytes"] for one in answers if one.status == 200] == [3, 3, 3]


async def test_targets_that_are_no_paths_are_refused(site: Site) -> None:
    path = site.path("v")
    await site.put(site.route("v", site.first()))
    for raw in (
        f"CONNECT {path} HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET {path}/x#/../y HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET {path}/a b HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET {path}/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        f"GET ftp:{path} HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ):
        before = len(site.one.seen)
        answers = await _answers(site, raw.encode("latin-1"))
        assert all(one.status in (400, 404, 405) for one in answers), raw
        assert len(site.one.seen) == before, raw


async def test_headers_without_end_are_refused(site: Site) -> None:
    raw = request("GET", "/", *(f"X-{number}: {'y' * 1000}" for number in range(200)))
    answers = await _answers(site, raw)
    assert all(one.status in (400, 431) for one in answers)


async def test_a_header_named_in_connection_does_not_take_ours_away(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    await site.router.get(f"{site.path('v')}/x", "Connection: X-VH-Prefix, X-Forwarded-For")
    assert site.one.seen[-1].header("x-vh-prefix") == [f"{site.path('v')}/"]
    assert site.one.seen[-1].header("x-forwarded-for") == ["127.0.0.1"]


async def test_a_pod_that_talks_out_of_turn_does_not_answer_for_another(site: Site) -> None:
    """A second answer on a kept connection belongs to nobody."""
    spoken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
                writer.write(answer + b"mine")
                await asyncio.sleep(0.05)
                writer.write(answer + b"evil")
                spoken.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    backend = site.first().model_copy(update={"port": server.sockets[0].getsockname()[1]})
    await site.put(site.route("v", backend))
    async with Wire(site.router.port) as wire:
        for _ in range(3):
            assert (await wire.get(site.path("v"))).body == b"mine"
            await asyncio.wait_for(spoken.wait(), 5)
            spoken.clear()
            await asyncio.sleep(0.1)
    server.close()
