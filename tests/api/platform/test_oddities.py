"""Every operation of every app takes odd bodies, addresses and headers without falling over."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.api.platform.apps import APPS, Target
from tests.api.platform.population import Estate
from tests.api.platform.samples import odd_bodies, sample
from tests.api.platform.services import Services

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


@pytest.fixture(params=APPS, ids="-".join)
def target(request: pytest.FixtureRequest, services: Services, alice: Estate) -> Target:
    return Target(services, alice, *request.param)


def test_bodies(target: Target) -> None:
    components = target.document.get("components", {}).get("schemas", {})
    faults, sent = set(), 0
    with httpx.Client(base_url=target.url, headers=target.headers, timeout=30) as client:
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
