"""What every engine does with a request: address, prefix, key, version, and the way to the pod and back."""

import asyncio
import contextlib
import hashlib
import time

import pytest

from slipway_testing.wire import Wire, request
from tests.api.router.support import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_pod_gets_the_full_path_and_the_prefix_that_was_used(site: Site) -> None:
    await site.put(site.route("20260101.0", site.first()), site.route("production", site.first()))
    for name in ("20260101.0", "production"):
        path = f"{site.path(name)}/predict?a=1&b=%2F"
        answer = await site.router.get(path, "X-VH-Prefix: /evil/", "x_vh_prefix: /evil/", "X-VH-Other: 1")
        assert answer.status == 200
        seen = site.one.seen[-1]
        assert seen.target == path
        assert seen.header("x-vh-prefix") == [f"{site.path(name)}/"]
        assert not [one for one, _ in seen.headers if one.replace("_", "-").startswith("x-vh") and "prefix" not in one]
        assert [one for one, _ in seen.headers if "_" in one] == []
        assert seen.header("host") == ["models.example.org"]


async def test_the_answer_names_the_version_that_served_it(site: Site) -> None:
    await site.put(site.route("a", site.first()), site.route("b", site.second()))
    for name, version in (("a", "v1"), ("b", "v2")):
        answer = await site.router.get(f"{site.path(name)}/echo")
        assert [value for one, value in answer.headers if one == "x-slipway-version"] == [version]


async def test_a_prefix_ends_at_a_slash(site: Site) -> None:
    await site.put(site.route("v", site.first()), site.route("v", site.second(), endpoint="greeter"))
    base = site.path("v")
    for path, status, version in (
        (base, 200, "v1"),
        (f"{base}/", 200, "v1"),
        (f"{base}?x=/y", 200, "v1"),
        (f"{base}//a/../b", 200, "v1"),
        (f"{base}er/x", 200, "v2"),
        (f"{base}e", 404, None),
        (f"{base}%2Fecho", 404, None),
        (f"/{base}", 404, None),
        (base.replace("/greet", "//greet"), 404, None),
        (base.replace("greet", "gr%65et"), 404, None),
        (base.upper(), 404, None),
        ("/", 404, None),
        ("/favicon.ico", 404, None),
    ):
        answer = await site.router.get(path)
        assert (answer.status, answer.header("x-slipway-version")) == (status, version), path
        if status == 404:
            assert answer.json()["code"] == "endpoint_not_found"
            assert answer.header("content-type") == "application/problem+json"


async def test_the_path_that_decides_is_the_path_that_the_pod_gets(site: Site) -> None:
    other = site.path("closed")
    await site.put(site.route("open", site.first()), site.route("closed", site.second(), public=False))
    base = site.path("open")
    for target in (f"{base}/../../closed/greet/x", f"{base}/..%2f..%2fclosed/greet/x", f"{base}/%2e%2e/%2e%2e/closed"):
        before = len(site.two.seen)
        answer = await site.router.get(target)
        assert answer.header("x-slipway-version") == "v1"
        assert site.one.seen[-1].target == target
        assert len(site.two.seen) == before
    async with Wire(site.router.port) as wire:
        await wire.send(request("GET", f"http://models.example.org{base}/abs?x=1"))
        assert (await wire.answer()).status == 200
        assert site.one.seen[-1].target == f"{base}/abs?x=1"
        await wire.send(request("GET", f"http://models.example.org{other}/abs"))
        assert (await wire.answer()).status == 401


async def test_a_closed_endpoint_wants_a_key(site: Site) -> None:
    await site.put(site.route("v", site.first(), public=False), site.key("right key"))
    path = f"{site.path('v')}/echo"
    before = len(site.one.seen)
    missing = await site.router.get(path)
    assert (missing.status, missing.json()["code"]) == (401, "key_missing")
    assert missing.header("www-authenticate") == 'Bearer realm="slipway"'
    assert missing.header("x-slipway-version") is None
    for header in ("Authorization: Bearer wrong", "X-Api-Key: wrong", "X-Api-Key: ", "Authorization: Bearer right"):
        refused = await site.router.get(path, header)
        assert (refused.status, refused.json()["code"]) == (403, "key_refused"), header
    assert (await site.router.get(path, "Authorization: Basic cmlnaHQga2V5")).status == 401
    assert len(site.one.seen) == before
    for header in ("Authorization: Bearer right key", "authorization: bEaReR right key", "X-Api-Key: right key"):
        assert (await site.router.get(path, header)).status == 200, header


async def test_a_key_never_reaches_the_pod(site: Site) -> None:
    await site.put(
        site.route("v", site.first(), public=False), site.route("p", site.first()), site.key("k1"), site.key("k2")
    )
    for name, headers, left in (
        ("v", ("Authorization: Bearer k1",), {}),
        ("v", ("X-Api-Key: k1",), {}),
        ("v", ("X-Api-Key: k1", "Authorization: Bearer k1"), {}),
        ("v", ("X-Api-Key: k1", "Authorization: Bearer own"), {"authorization": "Bearer own"}),
        ("v", ("X-Api-Key: k1", "Authorization: Basic own"), {"authorization": "Basic own"}),
        ("p", ("Authorization: Bearer k1",), {}),
        ("v", ("X-Api-Key: k1", "Authorization: Bearer k2"), {}),
        ("p", ("X-Api-Key: own",), {"x-api-key": "own"}),
        ("p", ("X-Api-Key: own", "Authorization: Bearer k1"), {"x-api-key": "own"}),
        ("p", ("X-Api-Key: k1", "Authorization: Bearer own"), {"authorization": "Bearer own"}),
    ):
        assert (await site.router.get(f"{site.path(name)}/echo", *headers)).status == 200, headers
        kept = {one: value for one, value in site.one.seen[-1].headers if one in ("authorization", "x-api-key")}
        assert kept == left, headers


async def test_a_key_opens_what_it_is_for(site: Site) -> None:
    other = Site(site.builder, site.router, site.one, site.two, site.builder_app)
    now = int(time.time())
    await site.put(
        site.route("v", site.first(), public=False),
        site.route("v", site.first(), public=False, endpoint="train"),
        other.route("v", site.second(), public=False),
        site.key("all"),
        site.key("greet only", endpoints=("greet",)),
        site.key("two", endpoints=("greet", "train")),
        site.key("old", expires_at=now - 1),
        site.key("fresh", expires_at=now + 3600),
        other.key("foreign"),
    )
    for key, endpoint, status, code in (
        ("all", "greet", 200, None),
        ("all", "train", 200, None),
        ("greet only", "greet", 200, None),
        ("greet only", "train", 403, "key_out_of_scope"),
        ("two", "train", 200, None),
        ("old", "greet", 403, "key_expired"),
        ("fresh", "greet", 200, None),
        ("foreign", "greet", 403, "key_refused"),
    ):
        answer = await site.router.get(f"{site.path('v', endpoint)}/echo", f"X-Api-Key: {key}")
        assert answer.status == status, key
        assert code is None or answer.json()["code"] == code
    assert (await site.router.get(f"{other.path('v')}/echo", "X-Api-Key: foreign")).status == 200


async def test_a_kept_connection_proves_nothing_about_its_next_request(site: Site) -> None:
    await site.put(site.route("v", site.first(), public=False), site.key("one"), site.key("two", endpoints=("greet",)))
    path = f"{site.path('v')}/echo"
    async with Wire(site.router.port) as wire:
        for header, status in (
            ("X-Api-Key: one", 200),
            ("X-Api-Key: one", 200),
            ("X-Other: 1", 401),
            ("X-Api-Key: on", 403),
            ("X-Api-Key: one1", 403),
            ("Authorization: Bearer one", 200),
            ("X-Api-Key: ", 403),
            ("X-Other: 1", 401),
            ("Authorization: Bearer two", 200),
            ("Authorization: Bearer three", 403),
            ("X-Api-Key: two", 200),
        ):
            assert (await wire.get(path, header)).status == status, header


async def test_a_key_works_at_once_and_ends_at_once(site: Site) -> None:
    path = f"{site.path('v')}/echo"
    key = site.key("short lived", endpoints=("greet",))
    await site.put(site.route("v", site.first(), public=False))
    async with Wire(site.router.port) as wire:
        assert (await wire.get(path, "X-Api-Key: short lived")).status == 403
        await site.put(key)
        assert (await wire.get(path, "X-Api-Key: short lived")).status == 200
        await site.put(key.model_copy(update={"endpoints": ("other",)}))
        assert (await wire.get(path, "X-Api-Key: short lived")).json()["code"] == "key_out_of_scope"
        await site.put(key.model_copy(update={"removed": True}))
        assert (await wire.get(path, "X-Api-Key: short lived")).json()["code"] == "key_refused"


async def test_of_several_headers_one_decides_and_all_go(site: Site) -> None:
    await site.put(site.route("v", site.first(), public=False), site.key("good"))
    path = f"{site.path('v')}/echo"
    for status, *headers in (
        (200, "X-Api-Key: bad", "X-Api-Key: good"),
        (403, "X-Api-Key: good", "X-Api-Key: bad"),
        (403, "X-Api-Key: bad", "Authorization: Bearer good"),
        (200, "Authorization: Bearer good", "Authorization: Bearer bad"),
        (403, "Authorization: Bearer bad", "Authorization: Bearer good"),
    ):
        assert (await site.router.get(path, *headers)).status == status, headers
        if status == 200:
            assert not [one for one, _ in site.one.seen[-1].headers if one in ("authorization", "x-api-key")]


async def test_a_key_has_so_many_requests_a_minute(site: Site) -> None:
    await site.put(
        site.route("v", site.first(), public=False), site.key("few", per_minute=3), site.key("many", per_minute=1000)
    )
    path = f"{site.path('v')}/echo"
    if time.time() % 60 > 55:
        await asyncio.sleep(60 - time.time() % 60)
    statuses = [(await site.router.get(path, "X-Api-Key: few")).status for _ in range(3)]
    assert statuses == [200, 200, 200]
    limited = await site.router.get(path, "X-Api-Key: few")
    assert (limited.status, limited.json()["code"]) == (429, "rate_limited")
    wait = int(limited.header("retry-after") or 0)
    assert abs(wait - (60 - time.time() % 60)) < 2
    assert (await site.router.get(path, "X-Api-Key: many")).status == 200


async def test_a_route_without_backends_says_why(site: Site) -> None:
    detail = 'Version "v9" is disabled; 50% | done; {braces}\nü'
    await site.put(site.route("none", detail=detail), site.route("silent"), site.route("closed", public=False))
    answer = await site.router.get(f"{site.path('none')}/echo")
    assert (answer.status, answer.json()) == (
        503, {"status": 503, "code": "endpoint_unavailable", "detail": detail},
    )  # fmt: skip
    assert "page says why" in (await site.router.get(f"{site.path('silent')}/echo")).json()["detail"]
    assert (await site.router.get(f"{site.path('closed')}/echo")).status == 401


async def test_failures_of_the_pod_name_the_version(site: Site) -> None:
    dead = site.first().model_copy(update={"port": 9})
    await site.put(site.route("v", site.first()), site.route("dead", dead))
    broke = await site.router.get(f"{site.path('v')}/drop")
    assert (broke.status, broke.json()["code"], broke.header("x-slipway-version")) == (
        502, "endpoint_broke_off", "v1",
    )  # fmt: skip
    away = await site.router.get(f"{site.path('dead')}/echo")
    assert (away.status, away.json()["code"], away.header("x-slipway-version")) == (503, "endpoint_unreachable", "v1")
    assert (await site.router.get(f"{site.path('v')}/status-418")).status == 418


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", b"{}"), ("POST", b""), ("PUT", b"{}"), ("PATCH", b"{}"), ("DELETE", b""), ("GET", b"{}")],
)
async def test_what_may_have_been_carried_out_is_not_sent_again(site: Site, method: str, body: bytes) -> None:
    await site.put(site.route("v", site.first()))
    async with Wire(site.router.port) as wire:
        # A connection to the pod that was used before: its loss is what an engine could take for an old one's end.
        assert (await wire.get(f"{site.path('v')}/echo")).status == 200
        await wire.send(request(method, f"{site.path('v')}/drop", body=body))
        # HAProxy closes a kept connection: whether to try again is for the client to say.
        with contextlib.suppress(asyncio.IncompleteReadError):
            assert (await wire.answer()).status == 502
    assert len([one for one in site.one.seen if one.target == f"{site.path('v')}/drop"]) == 1


async def test_a_removed_route_is_gone_and_a_changed_one_is_new_on_kept_connections(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    async with Wire(site.router.port) as wire:
        assert (await wire.get(f"{site.path('v')}/echo")).json()["pod"] == "one"
        await site.put(site.route("v", site.second()))
        answer = await wire.get(f"{site.path('v')}/echo")
        assert (answer.json()["pod"], answer.header("x-slipway-version")) == ("two", "v2")
        await site.put(site.route("v", removed=True))
        assert (await wire.get(f"{site.path('v')}/echo")).status == 404


async def test_a_canary_gets_its_share(site: Site) -> None:
    await site.put(
        site.route("random", site.first(80), site.second(20), sticky=False),
        site.route("sticky", site.first(50), site.second(50), public=False),
        site.route("all", site.first(0), site.second(100), sticky=False),
        site.route("nothing", site.first(100), site.second(0), sticky=False),
        *(site.key(f"consumer {number}") for number in range(40)),
    )
    async with Wire(site.router.port) as wire:

        async def versions(name: str, count: int, *headers: str) -> list[str | None]:
            return [
                (await wire.get(f"{site.path(name)}/echo", *headers)).header("x-slipway-version") for _ in range(count)
            ]

        assert 20 < (await versions("random", 300)).count("v2") < 110
        assert set(await versions("all", 20)) == {"v2"}
        assert set(await versions("nothing", 20)) == {"v1"}
        met = [frozenset(await versions("sticky", 3, f"X-Api-Key: consumer {number}")) for number in range(40)]
        assert {len(one) for one in met} == {1}
        assert 6 < met.count(frozenset({"v2"})) < 34


async def test_what_a_client_says_about_itself_is_not_believed(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    forged = ("X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: bank", "Forwarded: for=9")
    await site.router.get(f"{site.path('v')}/echo", *forged, "X_Forwarded_For: 9.9.9.9", "X-Forwarded-Prefix: /x")
    seen = site.one.seen[-1]
    assert seen.header("x-forwarded-for") == ["127.0.0.1"]
    assert seen.header("x-forwarded-proto") == ["http"]
    assert seen.header("host") == ["models.example.org"]
    assert not {"forwarded", "x-forwarded-host", "x_forwarded_for", "x-forwarded-prefix"} & {
        one for one, _ in seen.headers
    }


async def test_methods_heads_and_continues(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    path = f"{site.path('v')}/echo"
    async with Wire(site.router.port) as wire:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            await wire.send(request(method, path, body=b"abc"))
            assert (await wire.answer()).json()["body_bytes"] == 3
        await wire.send(request("HEAD", path))
        head = await wire.answer(bodiless=True)
        assert head.status == 200
        assert int(head.header("content-length") or 0) > 0
        await wire.send(request("POST", path, "Expect: 100-continue", "Content-Length: 4"))
        assert (await wire.answer()).status == 100
        await wire.send(b"late")
        assert (await wire.answer()).json()["body_bytes"] == 4
        await wire.send(request("POST", path, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        assert (await wire.answer()).json()["body_sha256"] == hashlib.sha256(b"abcde").hexdigest()


async def test_answers_without_a_length_are_whole(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    assert (await site.router.get(f"{site.path('v')}/old")).json()["pod"] == "one"
    async with Wire(site.router.port) as wire:
        assert (await wire.get(f"{site.path('v')}/close")).json()["pod"] == "one"
        assert (await wire.get(f"{site.path('v')}/old")).json()["pod"] == "one"


async def test_events_arrive_as_they_are_sent(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    async with Wire(site.router.port) as wire:
        await wire.send(request("GET", f"{site.path('v')}/events"))
        began = time.monotonic()
        assert (await wire.head())[0] == 200
        times = []
        while data := await wire.chunk():
            assert data == f"data: {len(times)}\n\n".encode()
            times.append(time.monotonic() - began)
        assert len(times) == 5
        assert times[-1] - times[0] > 0.1
        assert (await wire.get(f"{site.path('v')}/echo")).status == 200


async def test_websockets_pass(site: Site) -> None:
    await site.put(site.route("v", site.first(), public=False), site.key("ws key"))
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    path = f"{site.path('v')}/ws"
    async with Wire(site.router.port) as wire:
        await wire.send(request("GET", path, *upgrade))
        assert (await wire.answer()).status == 401
    async with Wire(site.router.port) as wire:
        await wire.send(request("GET", path, *upgrade, "X-Api-Key: ws key"))
        status, headers = await wire.head()
        assert status == 101
        assert dict(headers)["upgrade"] == "websocket"
        assert "sec-websocket-accept" in dict(headers)
        assert dict(headers)["x-slipway-version"] == "v1"
        for message in (b"\x81\x02hi", b"\x82" + b"z" * 100_000):
            await wire.send(message)
            async with asyncio.timeout(5):
                assert await wire.reader.readexactly(len(message)) == message
    async with Wire(site.router.port) as wire:
        await wire.send(request("GET", f"{site.path('v')}/echo", *upgrade, "X-Api-Key: ws key"))
        assert (await wire.answer()).status == 200


async def test_a_pod_that_answers_before_the_body_is_heard(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    async with Wire(site.router.port) as wire:
        await wire.send(request("POST", f"{site.path('v')}/early", "Content-Length: 1000000") + b"x" * 1000)
        assert (await wire.answer()).status in (413, 502)


async def test_connections_to_the_pod_are_kept(site: Site) -> None:
    await site.put(site.route("v", site.first()))
    before = site.one.connections
    async with Wire(site.router.port) as wire:
        for _ in range(30):
            assert (await wire.get(f"{site.path('v')}/echo")).status == 200
    assert site.one.connections - before <= 3


async def test_counts_and_key_uses_reach_the_builder_and_the_metrics(site: Site) -> None:
    key = site.key("counted")
    await site.put(site.route("v", site.first(), public=False), key)
    path = site.path("v")
    for action in ("echo", "echo", "status-500", "status-404", "slow-30"):
        await site.router.get(f"{path}/{action}", "X-Api-Key: counted")
    await site.router.get(f"{path}/echo")
    async with asyncio.timeout(10):
        while site.builder.requests(site.v1) < 5:
            await asyncio.sleep(0.05)
    counts = [one for one in site.builder.counts if one.version_id == site.v1]
    assert {one.prefix for one in counts} == {path}
    assert sum(one.server_errors for one in counts) == 1
    assert sum(one.client_errors for one in counts) == 1
    assert sum(sum(one.buckets) for one in counts) == 5
    assert 25 <= max(one.latency_ms_max for one in counts) < 5000
    assert abs(site.builder.key_uses[key.key_id] - time.time()) < 30
    said = await site.router.health("/metrics")
    assert said is not None
    assert f'slipway_router_requests_total{{route="{path}",version_id="{site.v1}"}} 5' in said[1]
    assert 'slipway_router_refused_requests_total{status="401"}' in said[1]
