"""Abuse that is refused clearly: too much of a body, of a query, of nesting, and bodies that come slowly."""

import json
import socket
import time
from typing import Any

import httpx

from slipway_kit.middleware import MAX_BODY_BYTES
from tests.api.platform.population import Estate
from tests.api.platform.services import Services

BODY_LIMIT = 10 * 1024 * 1024
SLOW_CLIENTS = 24
"""More than the gateway has connections to its database."""


def client_for(services: Services, estate: Estate) -> httpx.Client:
    headers = {"Authorization": f"Token {estate.token}"}
    return httpx.Client(base_url=services.url("gateway", "public"), headers=headers, timeout=30)


def test_a_body_above_the_limit_is_too_large(services: Services, alice: Estate) -> None:
    body = b'{"name": "' + b"x" * BODY_LIMIT + b'"}'
    with client_for(services, alice) as client:
        for path in ("/api/v0/projects/", "/api/v0/executions/", "/api/v0/data/upload/", "/api/v0/get-token/"):
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), (path, answer.text)
            assert str(BODY_LIMIT) in answer.json()["message"]


def test_bodies_that_pydantic_reads_have_a_limit_too(services: Services, alice: Estate) -> None:
    path = f"/api/v0/projects/{alice.project['id']}/repository/"
    with client_for(services, alice) as client:
        for headers in ({"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data"}):
            answer = client.put(path, content=b'{"url": "' + b"x" * MAX_BODY_BYTES + b'"}', headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text[:200]
            answer = client.put(path, content=iter([b'{"url": "'] + [b"x" * 2**20] * 40), headers=headers)
            assert answer.status_code == 413, answer.text[:200]


def test_deep_nesting_is_refused(services: Services, alice: Estate) -> None:
    with client_for(services, alice) as client:
        for opening in (b"[", b'{"a":'):
            body = b'{"parameters": ' + opening * 100_000
            answer = client.post("/api/v0/executions/", content=body)
            assert (answer.status_code, answer.json()["detail"][0]["code"]) == (400, "parse_error"), answer.text[:300]


def test_a_long_query_is_answered_or_refused_at_once(services: Services, alice: Estate) -> None:
    with client_for(services, alice) as client:
        for query in ("counter=7&" * 5_000, "status=started&" * 3_000, "a=" + "b" * 60_000):
            started = time.monotonic()
            answer = client.get(f"/api/v0/executions/?{query}")
            assert answer.status_code in (200, 400, 414, 431), answer.text[:200]
            assert time.monotonic() - started < 5


def test_slow_bodies_hold_no_connection_of_the_database(services: Services, alice: Estate) -> None:
    port = services.ports["gateway"]["public"]
    body = json.dumps({"name": "slow"})
    head = (
        "POST /api/v0/projects/ HTTP/1.1\r\nHost: slipway\r\nContent-Type: application/json\r\n"
        f"Authorization: Token {alice.token}\r\nContent-Length: {len(body) + 1000}\r\n\r\n{body}"
    )
    waiting: list[socket.socket] = []
    try:
        for _ in range(SLOW_CLIENTS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.sendall(head.encode())
            waiting.append(connection)
        time.sleep(0.5)
        started = time.monotonic()
        with client_for(services, alice) as client:
            assert client.get("/api/v0/projects/").status_code == 200
        assert time.monotonic() - started < 5
    finally:
        for connection in waiting:
            connection.close()


def test_a_connection_serves_on_after_a_large_body(services: Services, alice: Estate) -> None:
    large: dict[str, Any] = {"name": "large", "description": "x" * 500_000}
    with client_for(services, alice) as client:
        for _ in range(3):
            assert client.post("/api/v0/projects/", json=large).status_code < 500
            assert client.get("/api/v0/users/me/").status_code == 200
