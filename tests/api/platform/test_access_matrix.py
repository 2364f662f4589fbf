"""Every public route x the caller: nobody can tell another's thing from one that does not exist."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from slipway_gateway.app import public_app
from slipway_gateway.identity.csrf import FIELD, csrf_token
from slipway_gateway.identity.dependencies import SESSION_COOKIE
from slipway_gateway.web.pages import install_pages
from slipway_logs.spec import SPEC as LOGS
from tests.api.platform.matrix import (
    ADMINISTRATORS,
    OPEN,
    ROWS,
    UNKNOWN,
    Call,
    filled,
    template_of,
    things_of,
    variants,
)
from tests.api.platform.population import Estate, settle
from tests.api.platform.services import Services

PAGES = ("/p/", "/owners/", "/admin/", "/projects/", "/auth/", "/environments/")


def public_routes() -> list[str]:
    """`METHOD path` of all that the public origin serves."""
    gateway = public_app(None)
    install_pages(gateway)
    schema_apps = LOGS.schema_apps
    assert schema_apps is not None
    streams = schema_apps().public
    assert isinstance(streams, FastAPI)
    found = {
        f"{method} {getattr(route, 'path_format', None) or getattr(route, 'path', '')}"
        for app in (gateway, streams)
        for route in iter_route_contexts(app.router.routes)
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    return sorted(found)


ROUTES = public_routes()
# A live log does not end while the run goes on; whose it is, the calls with ids of others show.
READS = [one for one in ROUTES if one.startswith("GET ") and one not in OPEN and "/streams/" not in one]


def is_page(route: str) -> bool:
    path = route.split(" ", 1)[1]
    return path == "/" or path.startswith(PAGES)


class Caller:
    """Somebody, with a token or without, as a client of the API and in a browser."""

    def __init__(self, services: Services, token: str | None) -> None:
        self._services = services
        self._token = token
        self._pepper = (services.home / "pepper").read_text()
        self._client = httpx.Client(timeout=30)

    def close(self) -> None:
        self._client.close()

    def send(self, route: str, call: Call, values: Mapping[str, str]) -> httpx.Response:
        method, path = route.split(" ", 1)
        service = "logs" if path.startswith("/api/v1/streams/") else "gateway"
        address = filled(call.path or template_of(path), values)
        query = filled(call.query, values)
        url = self._services.url(service, "public") + address + (f"?{query}" if query else "")
        more: dict[str, Any] = {}
        if call.body is not None:
            more["json"] = filled(call.body, values)
        if call.form is not None:
            secret = csrf_token(self._token or "", self._pepper)
            more["data"] = {**filled(call.form, values), FIELD: secret}
        headers = {}
        if self._token is not None:
            page = is_page(route)
            headers = (
                {"Cookie": f"{SESSION_COOKIE}={self._token}"} if page else {"Authorization": f"Token {self._token}"}
            )
        self._client.cookies.clear()
        return self._client.request(method, url, headers=headers, **more)


def told(answer: httpx.Response, values: Mapping[str, str]) -> tuple[int, str, str]:
    """What an answer says, apart from what it repeats of the question and from the request's id."""

    def plain(text: str) -> str:
        for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, f"<{name}>")
        text = re.sub(r'"request_id":"[^"]*"', "", text)
        # A form on a page of somebody who is not logged in holds a token for this visit alone.
        return re.sub(r'name="csrf_token" value="[^"]*"', "", text)

    return answer.status_code, plain(answer.headers.get("location", "")), plain(answer.text)


@pytest.fixture(scope="module", params=["alice", "acme"])
def owner(request: pytest.FixtureRequest, services: Services) -> Iterator[Estate]:
    """Whose things are asked for: a person's own, and an organization's."""
    if request.param == "alice":
        yield request.getfixturevalue("alice")
        return
    made = settle(services, "acme", shared=True)
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def bob(services: Services) -> Iterator[Estate]:
    """The other user, who has things too and is a member of another organization."""
    made = settle(services, "bob")
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def as_bob(services: Services, bob: Estate) -> Iterator[Caller]:
    caller = Caller(services, bob.token)
    yield caller
    caller.close()


def test_every_route_has_a_row() -> None:
    assert set(ROUTES) == set(ROWS), "Add a row to tests/api/platform/matrix.py for each new route."


@pytest.mark.parametrize("route", ROUTES)
def test_anothers_thing_is_as_one_that_does_not_exist(route: str, owner: Estate, bob: Estate, as_bob: Caller) -> None:
    template = template_of(route.split(" ", 1)[1])
    theirs, own = things_of(owner), things_of(bob)
    for call in ROWS[route]:
        in_path = set(Call(path=call.path).placeholders(template))
        for names in variants(call.placeholders(template)):
            if not names:
                continue
            foreign = {**own, **{name: theirs[name] for name in names}}
            missing = {**own, **{name: UNKNOWN[name] for name in names}}
            answer = as_bob.send(route, call, foreign)
            expected = as_bob.send(route, call, missing)
            assert told(answer, foreign) == told(expected, missing), (route, call, names)
            if set(names) <= in_path and "{execution_id}/set_status" not in route:
                assert answer.status_code == 404, (route, call, names, answer.text)


@pytest.mark.parametrize("route", READS)
def test_what_a_user_reads_holds_nothing_of_another(route: str, owner: Estate, bob: Estate, as_bob: Caller) -> None:
    theirs = things_of(owner)
    marks = {theirs[name] for name in ("project", "execution", "datum", "output", "alias", "store", "upload", "commit")}
    for call in ROWS[route]:
        answer = as_bob.send(route, call, things_of(bob))
        assert answer.status_code < 500, answer.text
        text = answer.text
        assert not [mark for mark in marks if mark in text], (route, call)
        assert owner.name not in text, (route, call, text)


@pytest.fixture(scope="module")
def dead_tokens(services: Services) -> dict[str, str | None]:
    """Credentials that open nothing: of the owner of the things, once."""
    tokens: dict[str, str | None] = {"anonymous": None, "made_up": "no-such-token"}
    for state in ("revoked", "expired"):
        name = f"was-{state}"
        tokens[state] = services.token_of(name)
        column, at = ("revoked_at", datetime.now(UTC)) if state == "revoked" else ("expires_at", _an_hour_ago())
        services.sql(
            f"UPDATE gateway.tokens SET {column} = $1"
            " WHERE user_id = (SELECT id FROM gateway.accounts WHERE slug = $2)",
            at,
            name,
        )
    return tokens


def _an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.parametrize("state", ["anonymous", "made_up", "revoked", "expired"])
def test_without_a_valid_token_nothing_opens(
    state: str, services: Services, alice: Estate, dead_tokens: dict[str, str | None]
) -> None:
    caller = Caller(services, dead_tokens[state])
    theirs = things_of(alice)
    try:
        for route in ROUTES:
            if route in OPEN:
                continue
            for call in ROWS[route]:
                answer, expected = caller.send(route, call, theirs), caller.send(route, call, UNKNOWN)
                assert told(answer, theirs) == told(expected, UNKNOWN), (route, call)
                if is_page(route):
                    assert (answer.status_code, answer.headers["location"][:12]) == (303, "/auth/login/"), (route, call)
                else:
                    assert answer.status_code == 401, (route, call, answer.text)
                    assert answer.headers["www-authenticate"]
    finally:
        caller.close()


def test_the_owner_is_served_so_the_matrix_asks_for_real_things(services: Services, owner: Estate) -> None:
    caller = Caller(services, owner.token)
    served = 0
    try:
        for route in READS:
            for call in ROWS[route]:
                answer = caller.send(route, call, things_of(owner))
                served_by = (404,) if route in ADMINISTRATORS else (200, 303, 307)
                assert answer.status_code in served_by, (route, call, answer.text)
                served += 1
    finally:
        caller.close()
    assert served > 40


def test_attempt_tokens_open_one_attempt(services: Services, alice: Estate, bob: Estate) -> None:
    headers = {"Authorization": f"Bearer {bob.attempt.token}"}
    missing = "0190dead-0000-7000-8000-00000000000a"
    bodies: dict[str, Any] = {
        "materials": {},
        "uploads": {"name": "a", "size": 1},
        f"uploads/{alice.output_datum}/parts": {"numbers": [1]},
        "outputs": {"files": []},
    }
    with httpx.Client(base_url=services.url("gateway", "workers"), headers=headers) as client:
        for path, body in bodies.items():
            answer = client.post(f"/workers/v1/attempts/{alice.attempt.id}/{path}", json=body)
            expected = client.post(f"/workers/v1/attempts/{missing}/{path}", json=body)
            assert answer.status_code == 403, (path, answer.text)
            assert told(answer, {"a": alice.attempt.id}) == told(expected, {"a": missing})
        # With the right attempt, but another's upload or file.
        own = f"/workers/v1/attempts/{bob.attempt.id}"
        for foreign in (alice.upload, alice.output_datum, alice.datum["id"]):
            answer = client.post(f"{own}/uploads/{foreign}/parts", json={"numbers": [1]})
            expected = client.post(f"{own}/uploads/{missing}/parts", json={"numbers": [1]})
            assert answer.status_code >= 400
            assert told(answer, {"a": foreign}) == told(expected, {"a": missing})
            file = {"name": "a", "size": 1, "md5": "0" * 32, "sha1": "0" * 40, "sha256": "0" * 64}
            answer = client.post(f"{own}/outputs", json={"files": [{**file, "datum_id": foreign}]})
            expected = client.post(f"{own}/outputs", json={"files": [{**file, "datum_id": missing}]})
            assert answer.status_code >= 400
            assert told(answer, {"a": foreign}) == told(expected, {"a": missing})


def test_a_worker_changes_nothing_of_anothers_attempt(services: Services, alice: Estate, bob: Estate) -> None:
    def sync(attempt: str) -> httpx.Response:
        now = datetime.now(UTC).isoformat()
        fact = {"kind": "exited", "attempt_id": attempt, "seq": 9, "at": now, "code": 0, "reason": "success"}
        body = {
            "free": bob.machine.capacity,
            "attempts": [{"attempt_id": attempt, "phase": "running"}],
            "facts": [fact],
            "wait_seconds": 0,
        }
        headers = {"Authorization": f"Bearer {bob.machine.worker_token}"}
        return httpx.post(f"{services.url('scheduler', 'workers')}/workers/v1/sync", json=body, headers=headers)

    missing = "0190dead-0000-7000-8000-00000000000b"
    answer, expected = sync(alice.attempt.id), sync(missing)
    assert told(answer, {"a": alice.attempt.id}) == told(expected, {"a": missing})
    status = alice.client.get(alice.execution["url"]).json()["status"]
    assert status == "started"


def test_a_containers_token_opens_one_execution(services: Services, alice: Estate, bob: Estate) -> None:
    headers = bob.attempt.api["set_status_detail"]["headers"]
    missing = UNKNOWN["execution"]
    with httpx.Client(base_url=services.url("gateway", "public"), headers=headers) as client:
        for path in (
            "/api/v0/executions/{}/set_status_detail/",
            "/request-input-data/?inputs=" + missing + "&execution={}",
        ):
            answers = [client.post(path.format(one), json={}) for one in (alice.execution["id"], missing)]
            assert answers[0].status_code == 403, answers[0].text
            assert told(answers[0], {"a": alice.execution["id"]}) == told(answers[1], {"a": missing})


def test_internal_apps_open_to_the_service_that_needs_them_alone(services: Services, alice: Estate) -> None:
    for service, caller in (
        ("scheduler", "gateway"),
        ("logs", "gateway"),
        ("builder", "gateway"),
        ("gateway", "builder"),
    ):
        wrong = {
            "nobody": None,
            "user": f"Token {alice.token}",
            "worker": f"Bearer {alice.machine.worker_token}",
            "attempt": f"Bearer {alice.attempt.token}",
            "stranger": f"Bearer {services.service_token('stranger', service)}",
            "service of another right": f"Bearer {services.service_token('logs', service)}",
            "for another audience": f"Bearer {services.service_token(caller, 'elsewhere')}",
        }
        with httpx.Client(base_url=services.url(service, "internal")) as client:
            document = json.loads(client.get("/openapi.json").content)
            for path, methods in document["paths"].items():
                if path.startswith("/internal/v1/routers/"):
                    continue  # it opens to the token of a target's routers
                for method in methods:
                    for who, header in wrong.items():
                        address = re.sub(r"\{\w+\}", alice.execution["id"], path)
                        headers = {} if header is None else {"Authorization": header}
                        answer = client.request(method, address, headers=headers)
                        assert answer.status_code in (401, 403), (service, method, path, who, answer.text)
