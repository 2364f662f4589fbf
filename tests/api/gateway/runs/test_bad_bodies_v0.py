"""No route answers a body that makes no sense with 422 or 500, nor in another shape than the contract's."""

import json
import re
from typing import Any

import httpx

METHODS = ("post", "put", "patch", "delete")
STATUSES = {400, 401, 403, 404, 405, 409, 413, 415}
JSON_TYPE = {"content-type": "application/json"}
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}
WRONG_VALUES: list[Any] = [None, 7, -1.5, True, "", "\0", "\ud800", "x" * 5000, [], [None], {}, {"a": {"b": []}}]
MEANT_WITHOUT_BODY = re.compile(
    r"/(fetch|stop|purge|copy)/$|^delete |^(put|patch) |/(metadata|tags)/$|/complete/$|/set_status_detail/$"
)


def bodies(schema: dict[str, Any]) -> list[tuple[bytes, dict[str, str]]]:
    """Bodies without sense, and for every property of the schema one value of each wrong kind."""
    fixed = [
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{",
        b"[1,",
        b"\xff\xfe",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"\\u0000":1}',
        b"[" * 3000,
        b"",
        b"\0",
    ]
    found = [(body, JSON_TYPE) for body in fixed]
    found += [(b"a=1&a=2", FORM_TYPE), (b"%ff=%00", FORM_TYPE), (b"x", {"content-type": "text/plain"})]
    found += [
        (b"--b", {"content-type": "multipart/form-data; boundary=b"}),
        (b"x", {"content-type": "multipart/form-data"}),
    ]
    names = list(schema.get("properties", {}))
    found += [(json.dumps(dict.fromkeys(names, value)).encode(), JSON_TYPE) for value in WRONG_VALUES]
    found += [
        (json.dumps({name: value}).encode(), JSON_TYPE) for name in names for value in (7, "\0", "\ud800", [], {"a": 1})
    ]
    return found


def schema_of(operation: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = next(iter(content.values()), {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    return components[name] if name else schema


def problem_with(answer: httpx.Response) -> str | None:
    """What is wrong with an error answer by contract 1.1."""
    if answer.status_code not in STATUSES:
        return f"status {answer.status_code}"
    if answer.headers["content-type"] != "application/json":
        return f"type {answer.headers['content-type']}"
    body = answer.json()
    if set(body) == {"message", "code"} and all(isinstance(value, str) for value in body.values()):
        return None
    for field, problems in body.items():
        if not isinstance(problems, list) or not problems:
            return f"field {field} has no list of problems"
        if any(set(one) != {"message", "code"} or not one["message"] for one in problems):
            return f"field {field} has a problem without message and code"
    return None if body else "empty body"


async def test_bodies_without_sense_are_told_so(lab, context, anonymous):
    document = (await anonymous.get("/openapi.json")).json()
    components = document["components"]["schemas"]
    execution = await lab.created()
    datum = await lab.upload("a.txt", b"a")
    alias = await lab.me.post(
        "/api/v0/datum-aliases/", json={"project": lab.project["id"], "name": "newest", "datum": datum["id"]}
    )
    assert alias.status_code == 201, alias.text
    ids = {
        "project_id": lab.project["id"],
        "datum_id": datum["id"],
        "alias_id": alias.json()["id"],
        "reference": execution["id"],
        "execution_id": execution["id"],
    }
    unknown = "00000000-0000-7000-8000-00000000dead"
    wrong, sent = [], 0
    for template, methods in document["paths"].items():
        if template.startswith("/api/v1/"):
            continue  # other errors; the fuzz tests of the whole platform look after them
        path = re.sub(r"\{(\w+)\}", lambda match: str(ids.get(match[1], unknown)), template)
        for method in METHODS:
            if method not in methods:
                continue
            deletes = method == "delete" and not template.endswith("/environment_variable/")
            if deletes or template.endswith(("/stop/", "/purge/", "/copy/", "/fetch/")):
                path = re.sub(r"\{(\w+)\}", unknown, template)
            for body, headers in bodies(schema_of(methods[method], components)):
                answer = await lab.me.request(method, path, content=body, headers=headers)
                sent += 1
                good = answer.status_code < 300 and MEANT_WITHOUT_BODY.search(f"{method} {template}")
                what = None if good else problem_with(answer)
                if what is not None:
                    wrong.append(f"{method} {template} with {body[:60]!r}: {what}: {answer.text[:200]}")
    assert sent > 500
    assert not wrong, f"{len(wrong)} of {sent}:\n" + "\n".join(wrong[:60])
