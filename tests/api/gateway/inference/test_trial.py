"""The test call reaches the caller's own endpoint and nothing else."""

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from slipway_schemas.inference.routing import VERSION_HEADER
from slipway_testing.neighbours.builder import BuilderNeighbour
from slipway_testing.neighbours.serving import ServedApp


class Router:
    """A router of the target: it knows a new key only at the second request."""

    def __init__(self, builder: BuilderNeighbour) -> None:
        self._builder = builder
        self.paths: list[str] = []

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = {one.key_hash for one in self._builder.keys}
        if hashlib.sha256(key.encode()).hexdigest() not in known or len(self.paths) == 1:
            return PlainTextResponse("wrong key", 403)
        headers = {VERSION_HEADER: "v1"}
        if request.url.path.endswith("/away"):
            return RedirectResponse("http://127.0.0.1:1/elsewhere", headers=headers)
        if request.url.path.endswith("/large"):
            return Response(b"x" * (2 * 2**20), headers=headers)
        if request.url.path.endswith("/image"):
            return Response(b"\x89PNG\xff", headers=headers)
        if request.url.path.endswith("/forbidden"):
            return PlainTextResponse("not for you", 403, headers=headers)
        said = {
            "method": request.method,
            "query": dict(request.query_params),
            "type": request.headers.get("content-type"),
            "mine": request.headers.get("x-mine"),
            "body": (await request.body()).decode(),
        }
        return JSONResponse(said, headers=headers)


@pytest.fixture
async def router(builder, execute) -> AsyncIterator[Router]:
    made = Router(builder)
    methods = ["GET", "POST", "PUT"]
    async with ServedApp(Starlette(routes=[Route("/{path:path}", made.answer, methods=methods)])) as served:
        await execute("UPDATE builder_pub.target_v1 SET public_url = $1", served.url)
        yield made


@pytest.fixture
async def call(lab, router):
    version = await lab.version(name="v1")
    await lab.builder.available(UUID(version["id"]))
    url = f"/api/v1/deployment-endpoints/{version['endpoints'][0]['id']}/test"

    async def send(status: int = 200, client=None, **request):
        answer = await (client or lab.me).post(url, json=request)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


async def test_a_call_goes_to_the_endpoint_with_a_key_of_its_own(call, lab, router, other):
    answer = await call(path="predict/a b", query={"n": "1"}, json={"x": [1]}, headers={"X-Mine": "yes"})
    assert (answer["status"], answer["version"], answer["error"]) == (200, "v1", None)
    assert router.paths[0] == "/me/lab/main/v1/greet/predict/a b"
    assert len(router.paths) == 2, "the key was not known at once, so the call was made again"
    assert '"body":"{\\"x\\": [1]}"' in answer["body"]
    assert '"mine":"yes"' in answer["body"]
    assert answer["elapsed_ms"] > 0
    [key] = lab.builder.keys
    assert (key.consumer, key.endpoints) == ("test call of me", ("greet",))
    assert lab.builder.calls[-1][0] == f"DELETE /internal/v1/keys/{key.id}"
    assert key.hidden
    assert key.expires_at is not None
    assert (await lab.me.get(f"/api/v1/deployments/{lab.deployment['id']}/keys")).json() == {"items": []}
    await call(404, client=other)


async def test_what_comes_back_is_shown_as_it_is_and_redirects_are_not_followed(call, router):
    away = await call(method="GET", path="away")
    assert (away["status"], away["headers"]["location"]) == (307, "http://127.0.0.1:1/elsewhere")
    large = await call(method="GET", path="large")
    assert (len(large["body"]), large["truncated"]) == (2**20, True)
    image = await call(method="GET", path="image")
    assert base64.b64decode(image["body_base64"]) == b"\x89PNG\xff"
    before = len(router.paths)
    assert (await call(method="GET", path="forbidden"))["status"] == 403
    assert len(router.paths) == before + 1, "an answer of the version itself is not asked for again"
    form = await call(
        fields={"text": "hi"}, files={"file": {"filename": "a.txt", "content_base64": base64.b64encode(b"A").decode()}}
    )
    assert "multipart/form-data" in form["body"]


ODD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"path": "../../../else"}, "path"),
    ({"path": "%2e%2e/else"}, "path"),
    ({"path": "a/./b"}, "path"),
    ({"path": "a?b"}, "path"),
    ({"path": "a#b"}, "path"),
    ({"path": "a\\b"}, "path"),
    ({"path": "a\r\nX-Odd: 1"}, "path"),
    ({"headers": {"Host": "else.test"}}, "headers"),
    ({"headers": {"X-VH-Prefix": "/a"}}, "headers"),
    ({"headers": {"X-Forwarded-For": "1.1.1.1"}}, "headers"),
    ({"headers": {"X-A": "a\r\nb"}}, "headers"),
    ({"headers": {"X-A": "ä"}}, "headers"),
    ({"key": "a b"}, "key"),
    ({"url": "http://169.254.169.254/"}, "url"),
    ({"body": "a", "json": 1}, "body"),
    ({"body_base64": "%"}, "body_base64"),
    ({"query": {"a": "x" * 9000}}, "query"),
    ({"method": "CONNECT"}, "method"),
]


async def test_a_request_that_could_lead_elsewhere_is_not_sent(call, router):
    for wrong, field in ODD_REQUESTS:
        answer = await call(400, **wrong)
        assert field in answer["fields"], wrong
    assert not router.paths


async def test_an_endpoint_that_is_away_is_an_answer_and_the_key_is_ended(call, lab, execute):
    await execute("UPDATE builder_pub.target_v1 SET public_url = 'http://127.0.0.1:1'")
    answer = await call()
    assert (answer["status"], "cannot be reached" in answer["error"]) == (None, True)
    assert lab.builder.calls[-1][0].startswith("DELETE /internal/v1/keys/")
    await call(404, alias="nothing")
