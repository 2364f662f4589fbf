"""Every operation of every app takes odd bodies, addresses and headers without falling over."""

import json
import re
from itertools import cycle, islice
from typing import Any

import httpx
import pytest

from tests.api.platform.apps import APPS, Target
from tests.api.platform.population import Estate
from tests.api.platform.samples import odd_bodies, sample
from tests.api.platform.services import Services

pytestmark = pytest.mark.timeout(900)
UNKNOWN = "00000000-0000-7000-8000-00000000dead"
METHODS = ("get", "post", "put", "patch", "delete")
DESTROYING = ("/stop/", "/stop", "/purge/", "/drain")
RAW_BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b"\0",
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b'{"a":1e999}',
)
CONTENT_TYPES = (
    "application/json",
    "text/plain",
    "application/xml",
    "multipart/form-data",
    "",
    "\xff",
    "a/b;charset=x",
)
ODD_TEXTS = ("%00", "%FF", "%ED%A0%80", "%F0%9F%92%A9", "x" * 5000, "-1", "9" * 40, "..%2f..", "%0d%0a", "'", "latest:")
ODD_HEADERS = (
    "Authorization",
    "Accept",
    "Cookie",
    "Range",
    "If-None-Match",
    "X-Request-Id",
    "X-Slipway-Actor",
    "Last-Event-ID",
)
ODD_VALUES = (b"", b"\xff\xfe", b"x" * 7000, b"Token \xc3\x28", b"Bearer a.b.c", b"bytes=9-1", b"-1", b"csrf=;=;\xe9=1")


def operations(target: Target) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of all that the app says it can do."""
    return [
        (method, path, operation)
        for path, methods in target.document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def filled(target: Target, method: str, path: str) -> str:
    """The path with ids: existing ones, but for what destroys or ends things."""
    destroys = path.endswith(DESTROYING) or (method == "delete" and "environment_variable" not in path)
    known = {} if destroys else target.known
    return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], UNKNOWN), path)


def fault_of(answer: httpx.Response, operation: dict[str, Any]) -> str | None:
    """What is wrong with an answer."""
    if answer.status_code >= 500:
        return f"{answer.status_code} {answer.text[:200]}"
    if str(answer.status_code) not in operation["responses"]:
        return f"undocumented {answer.status_code} {answer.text[:200]}"
    if answer.status_code >= 400 and "json" not in answer.headers["content-type"]:
        return f"an error as {answer.headers['content-type']}"
    return None


def ask(client: httpx.Client, method: str, where: str, **more: Any) -> httpx.Response:
    """Send a request; of an endless answer only the head is read."""
    with client.stream(method, where, **more) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
    return answer


@pytest.fixture(params=APPS, ids="-".join)
def target(request: pytest.FixtureRequest, services: Services, alice: Estate) -> Target:
    return Target(services, alice, *request.param)


def test_bodies(target: Target) -> None:
    components = target.document.get("components", {}).get("schemas", {})
    faults, sent = set(), 0
    with httpx.Client(base_url=target.url, headers=target.headers, timeout=120) as client:
        for method, path, operation in operations(target):
            if "requestBody" not in operation:
                continue
            where = filled(target, method, path)
            schema = operation["requestBody"]["content"].get("application/json", {}).get("schema", {})
            whole = sample(schema, components, target.known)
            bodies = [("", whole), *odd_bodies(whole)] if schema else []
            tries = [(what, json.dumps(body).encode(), "application/json") for what, body in bodies]
            tries += [(f"{body!r:.60}", body, "application/json") for body in RAW_BODIES]
            tries += [(f"as {kind}", json.dumps(whole).encode(), kind) for kind in CONTENT_TYPES]
            for what, body, kind in tries:
                answer = client.request(method, where, content=body, headers={"content-type": kind.encode("latin-1")})
                sent += 1
                if fault := fault_of(answer, operation):
                    faults.add(f"{method} {path} with {what}: {fault}")
    print(f"{target.service} {target.app}: {sent} odd bodies")
    assert not faults, f"{len(faults)} of {sent}:\n" + "\n".join(sorted(faults)[:80])


def test_addresses(target: Target) -> None:
    faults, sent = set(), 0
    with httpx.Client(base_url=target.url, headers=target.headers, timeout=120) as client:
        for method, path, operation in operations(target):
            parameters = operation.get("parameters", [])
            places = [(one["name"], one["in"]) for one in parameters if one["in"] in {"path", "query"}]
            for name, kind in places:
                for text in ODD_TEXTS:
                    where = filled(target, method, path.replace(f"{{{name}}}", text) if kind == "path" else path)
                    answer = ask(client, method, f"{where}?{name}={text}" if kind == "query" else where)
                    sent += 1
                    # What is no address of this operation is one of another, or of nothing.
                    known = operation if answer.status_code not in {404, 405} else {"responses": {"404": {}, "405": {}}}
                    if fault := fault_of(answer, known):
                        faults.add(f"{method} {path} with {name}={text:.40}: {fault}")
    print(f"{target.service} {target.app}: {sent} odd addresses")
    assert not faults, f"{len(faults)} of {sent}:\n" + "\n".join(sorted(faults)[:80])


def test_headers(target: Target) -> None:
    faults, sent = set(), 0
    with httpx.Client(base_url=target.url, headers=target.headers, timeout=120) as client:
        reads = [(path, operation) for method, path, operation in operations(target) if method == "get"]
        pairs = cycle((name, value) for name in ODD_HEADERS for value in ODD_VALUES)
        for path, operation in reads:
            for name, value in islice(pairs, len(ODD_VALUES) + 1):
                answer = ask(client, "get", filled(target, "get", path), headers={name: value})
                sent += 1
                if answer.status_code >= 500:
                    faults.add(f"{path} with {name}: {value[:40]!r}: {fault_of(answer, operation)}")
    print(f"{target.service} {target.app}: {sent} odd headers")
    assert not faults, f"{len(faults)} of {sent}:\n" + "\n".join(sorted(faults)[:80])
