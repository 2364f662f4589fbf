"""Rows 64 and 66: clients other than `vh`, and bodies that make no sense."""

from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.support.api import Json
from tests.e2e.support.lab import Lab


def test_form_encoded_execution_and_json_project(lab: Lab) -> None:
    """Row 64: creates answer 201."""
    form = {"project": lab.project, "commit": "main", "step": "quick", "title": "By form", "tags": "one"}
    created = lab.api.call("POST", "executions/", data=form)
    assert created.status_code == 201, created.text
    execution: Json = created.json()
    assert execution["commit"]["identifier"] == lab.checkout.head
    assert execution["title"] == "By form"
    assert execution["tags"] == ["one"]
    lab.api.wait_complete(execution["id"])

    name = f"json-{uuid4().hex[:6]}"
    owner = lab.api.get("users/me/")
    project = lab.api.post("projects/", {"name": name, "owner": {"slug": owner["username"]}, "description": ""})
    assert project["owner"] == {"id": owner["id"], "username": owner["username"]}
    changed = lab.api.call("PUT", f"projects/{project['id']}/", json={"description": "changed"})
    assert (changed.status_code, changed.json()["description"]) == (200, "changed")
    lab.api.delete(f"projects/{project['id']}/")
    assert lab.api.call("GET", f"projects/{project['id']}/").status_code == 404


def test_query_words_of_other_clients(lab: Lab, finished: Json) -> None:
    """Row 64: large limits, booleans in Python's spelling, names of fields that nobody knows."""
    page = lab.api.get("executions/", project=lab.project, limit=9001, deleted="True", ordering="-counter")
    assert all(one["deleted"] for one in page["results"])
    whole = lab.api.get("executions/", project=lab.project, limit=9001, deleted="false")
    assert finished["id"] in [one["id"] for one in whole["results"]]
    assert whole["next"] is None
    reference = f"{lab.project}:{finished['counter']}"
    shown = lab.api.get(f"executions/{reference}/", exclude="metadata, events, inputs, nonsense")
    assert "inputs" not in shown
    assert shown["id"] == finished["id"]
    assert lab.api.get("executions/", project=lab.project, creator="<none>")["results"] == []
    first = lab.api.get("executions/", project=lab.project, limit=1)
    following = lab.api.call("GET", first["next"]).json()
    assert following["results"][0]["counter"] == first["results"][0]["counter"] - 1
    bare = lab.api.get(f"executions/{finished['id']}/outputs/", include="download_url")
    assert {one["name"] for one in bare} >= {"result.txt"}
    assert all(one["download_url"].startswith("http") for one in bare)


NONSENSE: list[dict[str, Any]] = [
    {"json": {}},
    {"json": []},
    {"json": "text"},
    {"json": {"project": 7, "name": {"a": []}, "commit": [], "step": {}, "tags": 5, "url": 4, "value": []}},
    {"content": b"{not json", "headers": {"Content-Type": "application/json"}},
    {"content": b"\xff\xfe\x00", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    {"content": b"<xml/>", "headers": {"Content-Type": "application/xml"}},
]


def test_nonsense_to_every_post_is_a_field_error(lab: Lab, finished: Json) -> None:
    """Row 66: 400 in the contract's shape, never a raw 422 and never a 500."""
    description = lab.api.call("GET", "/openapi.json").json()
    values = {
        "project_id": lab.project,
        "reference": finished["id"],
        "datum_id": str(uuid4()),
        "upload_id": str(uuid4()),
    }
    posts = [path for path, methods in description["paths"].items() if "post" in methods and "/api/v0/" in path]
    assert len(posts) >= 10
    asked = 0
    for path in posts:
        if path.endswith(("/stop/", "/copy/", "/purge/", "/fetch/")):
            continue  # any body is ignored there
        address = path.format_map(_Values(values))
        for options in NONSENSE:
            answer = lab.api.call("POST", address, **options)
            asked += 1
            about = f"POST {address} {options} answered {answer.status_code}: {answer.text[:500]}"
            assert answer.status_code in (200, 201, 400, 401, 404, 413, 415), about
            if answer.status_code < 300:
                assert options == {"json": {}}, about  # a body without any field is one that leaves all as it is
                continue
            _check_shape(answer.json(), about)
    assert asked >= 50


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return str(uuid4())


def _check_shape(body: Any, about: str) -> None:
    assert isinstance(body, dict), about
    if body.keys() == {"message", "code"}:
        return
    for problems in body.values():
        assert isinstance(problems, list), about
        assert problems, about
        assert all(problem.keys() == {"message", "code"} for problem in problems), about


@pytest.mark.parametrize(
    ("path", "status"),
    [("projects/not-an-id/", 404), ("executions/1:2:3/", 404), ("nothing/", 404), ("executions/?limit=many", 400)],
)
def test_wrong_addresses_answer_in_the_same_shape(lab: Lab, path: str, status: int) -> None:
    """Row 66: addresses too."""
    answer = lab.api.call("GET", path)
    assert answer.status_code == status, answer.text
    _check_shape(answer.json(), answer.text)
