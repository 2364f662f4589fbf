from typing import Annotated
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from slipway_kit.app import create_app
from slipway_kit.body import json_or_form
from slipway_kit.errors import Conflict, ErrorStyle, FieldProblem, Invalid, Unauthorized, Unavailable
from slipway_kit.metrics import ServiceMetrics


class Wanted(BaseModel):
    name: str = Field(min_length=1)
    count: int = 1
    tags: list[str] = []


def make_app(style: ErrorStyle, metrics: ServiceMetrics | None = None) -> FastAPI:
    app = create_app("test", style=style, metrics=metrics)
    router = APIRouter(prefix="/api/v0")

    @router.post("/things/{thing_id}/stop/")
    async def stop(thing_id: UUID) -> dict[str, str]:
        return {"stopped": str(thing_id)}

    @router.get("/bare")
    async def bare(limit: Annotated[int, Query(ge=1)] = 5) -> dict[str, int]:
        return {"limit": limit}

    @router.post("/json/")
    async def take_json(wanted: Wanted) -> Wanted:
        return wanted

    @router.post("/either/")
    async def take_either(wanted: Annotated[Wanted, Depends(json_or_form(Wanted, limit_bytes=2000))]) -> Wanted:
        return wanted

    @router.get("/fail/{kind}/")
    async def fail(kind: str) -> None:
        match kind:
            case "conflict":
                raise Conflict("It runs already.", code="already_running")
            case "login":
                raise Unauthorized("Log in first.")
            case "fields":
                raise Invalid.fields({"environment": [FieldProblem("No such environment.", "does_not_exist")]})
            case "away":
                raise Unavailable("The store is away.")
            case _:
                raise ZeroDivisionError("secret detail")

    app.include_router(router)
    return app


def client(style: ErrorStyle = ErrorStyle.V0, metrics: ServiceMetrics | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(style, metrics))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


ID = "0190b0a0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v0/things/{ID}/stop/",
        f"/api/v0/things/{ID}/stop",
        f"/api/v0/things/{ID}//stop/",
        f"//api/v0///things/{ID}//stop//",
    ],
)
async def test_slashes_are_forgiven_without_redirect(path: str) -> None:
    async with client() as c:
        answer = await c.post(f"http://test{path}")
    assert (answer.status_code, answer.json()) == (200, {"stopped": ID})


async def test_a_route_declared_without_slash_is_served_with_one() -> None:
    async with client() as c:
        assert (await c.get("/api/v0/bare/?limit=7")).json() == {"limit": 7}


async def test_unknown_paths_and_methods() -> None:
    async with client() as c:
        missing, wrong = await c.get("/api/v0/nothing/"), await c.delete("/api/v0/bare")
        no_id = await c.post("/api/v0/things/17/stop/")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    assert no_id.status_code == 404


async def test_validation_errors_are_said_by_field() -> None:
    async with client() as c:
        body = await c.post("/api/v0/json/", json={"count": "many"})
        query = await c.get("/api/v0/bare?limit=0")
        broken = await c.post("/api/v0/json/", content="{", headers={"content-type": "application/json"})
    assert body.status_code == 400
    assert body.json() == {
        "name": [{"message": "This field is required.", "code": "required"}],
        "count": [{"message": "A valid integer is required.", "code": "invalid"}],
    }
    assert query.json()["limit"][0]["code"] == "min_value"
    assert (broken.status_code, broken.json()["detail"][0]["code"]) == (400, "parse_error")


async def test_v0_shapes() -> None:
    async with client() as c:
        conflict, login = await c.get("/api/v0/fail/conflict/"), await c.get("/api/v0/fail/login/")
        fields, away = await c.get("/api/v0/fail/fields/"), await c.get("/api/v0/fail/away/")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "already_running")
    assert (login.status_code, login.headers["www-authenticate"]) == (401, "Token")
    assert fields.json() == {"environment": [{"message": "No such environment.", "code": "does_not_exist"}]}
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")


async def test_problem_documents() -> None:
    async with client(ErrorStyle.PROBLEM) as c:
        answer = await c.get("/api/v0/fail/fields/")
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (400, "invalid")
    assert problem["fields"]["environment"][0]["code"] == "does_not_exist"


async def test_a_crash_answers_500_with_the_request_id_and_no_detail() -> None:
    async with client() as c:
        answer = await c.get("/api/v0/fail/crash/", headers={"X-Request-Id": "req-1"})
    assert answer.status_code == 500
    assert "req-1" in answer.json()["message"]
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "req-1"


async def test_latency_is_measured_by_declared_route() -> None:
    registry = CollectorRegistry()
    async with client(metrics=ServiceMetrics(registry, "log-relay")) as c:
        await c.post(f"/api/v0/things/{ID}//stop")
    labels = {"method": "POST", "route": "/api/v0/things/{thing_id}/stop/", "status": "200"}
    assert registry.get_sample_value("slipway_log_relay_http_request_seconds_count", labels) == 1


async def test_either_json_or_form() -> None:
    expected = {"name": "a", "count": 3, "tags": ["x", "y"]}
    form = {"name": "a", "count": "3", "tags": ["x", "y"]}
    async with client() as c:
        for sent in (
            await c.post("/api/v0/either/", json=expected),
            await c.post("/api/v0/either/", data=form),
            await c.post("/api/v0/either/", data=form, files={"ignored": b"bytes"}),
        ):
            assert (sent.status_code, sent.json()) == (200, expected)


@pytest.mark.parametrize(
    ("content", "kind", "status", "field"),
    [
        (b"{", "application/json", 400, "detail"),
        (b"[1]", "application/json", 400, "detail"),
        (b"\xff\xfe{", "application/json", 400, "detail"),
        (b"", "application/json", 400, "name"),
        (b"broken", "multipart/form-data", 400, "detail"),
        (b"broken", "multipart/form-data; boundary=x", 400, "detail"),
        (b"count=1", "application/x-www-form-urlencoded", 400, "name"),
        (b"x" * 3000, "application/json", 413, "code"),
    ],
)
async def test_unusable_bodies_are_named(content: bytes, kind: str, status: int, field: str) -> None:
    async with client() as c:
        answer = await c.post("/api/v0/either/", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert field in answer.json()
