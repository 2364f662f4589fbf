"""Errors in the OpenAPI of an app, the methods that a refusal names, and requests that start outside of any unit."""

import httpx
from fastapi import APIRouter, FastAPI, Security
from pydantic import BaseModel

from slipway_kit.app import HotRoute, create_app
from slipway_kit.auth import BEARER
from slipway_kit.errors import ErrorStyle
from slipway_kit.unit_of_work import transaction_open


class Body(BaseModel):
    """A body."""

    name: str


def made(style: ErrorStyle) -> FastAPI:
    app = create_app("test", style=style)
    router = APIRouter(prefix="/things")

    @router.get("/{number}", dependencies=[Security(BEARER)])
    async def get(number: int) -> bool:
        return transaction_open.get()

    @router.put("/{number}", responses={409: {}})
    async def put(number: int, body: Body) -> bool:
        return True

    app.include_router(router)
    app.add_hot_route(HotRoute("/hot", "Hot.", Body, Body, "hot"), None)
    return app


def test_errors_follow_from_the_operation() -> None:
    document = made(ErrorStyle.PROBLEM).openapi()
    get, put = document["paths"]["/things/{number}"]["get"], document["paths"]["/things/{number}"]["put"]
    assert sorted(get["responses"]) == ["200", "401", "403", "404", "503"]
    assert sorted(put["responses"]) == ["200", "400", "404", "409", "413", "503"]
    assert put["responses"]["409"] == {"$ref": "#/components/responses/problem_409"}
    answer = document["components"]["responses"]["problem_409"]
    assert answer["content"]["application/problem+json"]["schema"]["$ref"] == "#/components/schemas/Problem"
    assert "WWW-Authenticate" in document["components"]["responses"]["problem_401"]["headers"]


def test_compatible_errors_come_by_field_or_as_one_message() -> None:
    document = made(ErrorStyle.V0).openapi()
    shapes = document["components"]["responses"]["v0_400"]["content"]["application/json"]["schema"]["anyOf"]
    assert [one["$ref"].rpartition("/")[2] for one in shapes] == ["MessageV0", "FieldErrorsV0"]
    assert {"MessageV0", "FieldErrorsV0", "ProblemField"} <= document["components"]["schemas"].keys()


def test_raw_endpoints_are_described() -> None:
    hot = made(ErrorStyle.PROBLEM).openapi()["paths"]["/hot"]["post"]
    assert sorted(hot["responses"]) == ["200", "400", "401", "403", "413", "503"]


async def test_a_refused_method_names_all_that_are_allowed() -> None:
    transport = httpx.ASGITransport(made(ErrorStyle.PROBLEM))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.delete("/things/1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
    assert (answer.json()["status"], answer.json()["title"]) == (405, "Method Not Allowed")


async def test_a_request_does_not_start_inside_the_unit_of_work_of_an_earlier_one() -> None:
    transport = httpx.ASGITransport(made(ErrorStyle.PROBLEM))
    before = transaction_open.set(True)  # what a server does that resumed reading inside a request
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/things/1")).json() is False
    finally:
        transaction_open.reset(before)
