"""`executions/` of the compatible API, with the real scheduler as neighbour."""

import json
from uuid import uuid4

import pytest

from slipway_schemas.environments import EnvironmentCreate, EnvironmentView

URL = "/api/v0/executions/"


async def test_create_merges_and_answers_with_the_whole_execution(lab) -> None:
    made = await lab.created(
        parameters={"lr": 0.5, "name": None},
        inputs={"data": ["https://example.org/a.csv"]},
        environment_variables={"B": "payload"},
        title="T",
        tags=["t1", "t2"],
        priority=1,
        commit="main",
    )
    assert (made["counter"], made["status"]) in [(1, "queued"), (1, "created")]
    assert made["commit"]["identifier"] == "c" * 40
    assert made["project"]["name"] == "lab"
    assert made["environment"]["name"] == "Local"
    assert made["interpolated_command"] == "echo first\npython t.py --lr=0.5"
    assert made["parameters"] == {"lr": 0.5}
    assert made["inputs"][0]["urls"] == ["https://example.org/a.csv"]
    assert made["environment_variables"]["A"] == {"value": "step", "secret": False}
    assert made["time_limit"] == 3600
    assert (made["title"], made["tags"], made["priority"]) == ("T", ["t1", "t2"], 1)
    assert made["urls"]["display"].startswith("http://slipway.test/p/me/lab/execution/")
    assert made["urls"]["stop"] == f"{made['url']}stop/"
    assert made["duration"] is None
    assert made["outputs"] == []


async def test_form_bodies_are_taken(lab) -> None:
    answer = await lab.me.post(
        URL,
        data={
            "project": lab.project["id"],
            "commit": "main",
            "step": "pre",
            "parameters": json.dumps({"lr": 0.2}),
            "tags": ["a", "b"],
        },
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["parameters"] == {"lr": 0.2}
    assert answer.json()["tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("payload", "field", "code"),
    [
        ({"step": "nope"}, "step", "does_not_exist"),
        ({"commit": "f" * 40}, "commit", "does_not_exist"),
        ({"project": str(uuid4())}, "project", "does_not_exist"),
        ({"environment": "nope"}, "environment", "does_not_exist"),
        ({"parameters": {"lr": "x"}}, "parameters", "invalid"),
        ({"parameters": {"lr": 3}}, "parameters", "invalid"),
        ({"inputs": {"data": ["datum://nobody"]}}, "inputs", "not_found"),
        ({"inputs": {"data": [f"datum://{uuid4()}"]}}, "inputs", "not_found"),
        ({"inputs": {"data": ["s3://bucket/key"]}}, "inputs", "store_not_found"),
        ({"inputs": {"data": ["dataset://a/latest"]}}, "inputs", "unsupported"),
        ({"inputs": {"data": ["ftp://a/b"]}}, "inputs", "invalid"),
        ({"inputs": {"data": ["http://"]}}, "inputs", "invalid"),
        ({"environment_variable_groups": ["g"]}, "environment_variable_groups", "does_not_exist"),
        ({"time_limit": "soon"}, "time_limit", "invalid"),
        ({"priority": "high"}, "priority", None),
        ({"project": "x"}, "project", None),
        ({"inputs": 7}, "inputs", None),
    ],
)
async def test_bad_input_is_a_field_error_and_leaves_nothing(lab, payload, field, code) -> None:
    answer = await lab.run(**payload)
    assert answer.status_code == 400, answer.text
    [problem] = answer.json()[field]
    assert problem["message"]
    assert code is None or problem["code"] == code
    assert (await lab.me.get(URL)).json()["results"] == []


async def test_what_is_required_is_asked_for_at_once(lab, context) -> None:
    body = EnvironmentCreate(slug="gpu-large", name="Large")
    await context.scheduler.post("/internal/v1/environments", body=body, result=EnvironmentView)
    answer = await lab.run("strict")
    assert answer.status_code == 400
    assert {name: found[0]["code"] for name, found in answer.json().items()} == {
        "parameters": "required",
        "inputs": "required",
        "environment_variables": "required",
    }
    made = await lab.created(
        "strict", parameters={"x": "3"}, inputs={"must": ["http://a/b"]}, environment_variables={"NEEDED": "1"}
    )
    assert made["environment"]["slug"] == "gpu-large"
    assert made["parameters"] == {"x": 3}


async def test_an_idempotency_key_gives_the_same_execution(lab) -> None:
    body = {"project": lab.project["id"], "commit": "main", "step": "pre"}
    first, again, other = [
        (await lab.me.post(URL, json=body, headers={"Idempotency-Key": key})).json() for key in ("k", "k", "l")
    ]
    assert first["id"] == again["id"]
    assert other["counter"] == 2


async def test_project_variables_are_inherited_and_secrets_stay_hidden(lab) -> None:
    url = f"/api/v0/projects/{lab.project['id']}/environment_variable/"
    await lab.me.post(url, json={"name": "TOKEN", "value": "hush", "secret": True})
    await lab.me.post(url, json={"name": "A", "value": "project"})
    made = await lab.created()
    assert made["environment_variables"] == {
        "TOKEN": {"value": None, "secret": True},
        "A": {"value": "step", "secret": False},
    }
    bare = await lab.created(runtime_config={"inherit_environment_variables": False})
    assert "TOKEN" not in bare["environment_variables"]


async def test_lists_are_filtered_ordered_and_paged(lab) -> None:
    for number in range(4):
        await lab.created(tags=[f"n{number}"])

    async def counters(query: str) -> list[int]:
        answer = await lab.me.get(f"{URL}?project={lab.project['id']}&{query}")
        assert answer.status_code == 200, answer.text
        return [item["counter"] for item in answer.json()["results"]]

    assert await counters("ordering=-counter&limit=9001&deleted=false") == [4, 3, 2, 1]
    assert await counters("ordering=counter&status=incomplete") == [1, 2, 3, 4]
    assert await counters("counter=2&counter=3&ordering=counter") == [2, 3]
    assert await counters("status=complete&status=error") == []
    assert await counters("creator=<none>") == []
    assert await counters("creator=" + str((await lab.me.get("/api/v0/users/me/")).json()["id"])) == [4, 3, 2, 1]
    assert await counters("tags=n1,n2&ordering=counter") == [2, 3]
    assert await counters("deleted=True") == []
    assert await counters("ordering=counter&offset=2&limit=1") == [3]
    assert await counters("step=pre&commit=" + "c" * 40 + "&environment=local&ordering=counter&limit=1") == [1]
    page = (await lab.me.get(f"{URL}?ordering=counter&limit=3&exclude=parameters,%20events")).json()
    assert page["count"] == 4
    assert "parameters" not in page["results"][0]
    rest = (await lab.me.get(page["next"])).json()
    assert [item["counter"] for item in rest["results"]] == [4]
    assert rest["next"] is None


async def test_lookup_by_counter_and_latest(lab) -> None:
    await lab.created()
    newest = await lab.created()
    place = f"{URL}{lab.project['id']}"
    assert (await lab.me.get(f"{place}:1/")).json()["counter"] == 1
    assert (await lab.me.get(f"{place}:latest/?exclude=outputs")).json()["id"] == newest["id"]
    for wrong in (f"{place}:99999/", f"{place}:x/", f"{URL}{uuid4()}/", f"{URL}nonsense/", f"{place}:-1/"):
        assert (await lab.me.get(wrong)).status_code == 404


async def test_what_you_may_not_see_does_not_exist(lab, other) -> None:
    made = await lab.created()
    url = made["url"]
    for method, path in [
        ("GET", url),
        ("GET", f"{url}events/"),
        ("GET", f"{url}log/"),
        ("GET", f"{url}outputs/"),
        ("POST", f"{url}stop/"),
        ("POST", f"{url}copy/"),
        ("POST", f"{url}tags/"),
        ("DELETE", url),
        ("GET", f"/api/v1/executions/{made['id']}/waiting"),
    ]:
        body = {"tags": ["x"]} if path.endswith("tags/") else None
        assert (await other.request(method, path, json=body)).status_code == 404, path
    assert (await other.get(URL)).json()["results"] == []


async def test_stop_copy_tags_title_and_delete(lab) -> None:
    made = await lab.created(title="first", tags=["a"])
    refused = await lab.me.delete(made["url"])
    assert refused.status_code == 400
    tagged = await lab.me.post(f"{made['url']}tags/", json={"tags": ["b"]})
    assert sorted(tagged.json()["tags"]) == ["a", "b"]
    renamed = await lab.me.patch(made["url"], json={"title": "second", "tags": ["c"]})
    assert (renamed.json()["title"], renamed.json()["tags"]) == ("second", ["c"])
    stopped = await lab.me.post(f"{made['url']}/stop/")
    assert stopped.status_code == 200
    assert "message" in stopped.json()
    assert (await lab.me.get(made["url"])).json()["status"] == "stopped"
    copied = (await lab.me.post(f"{made['url']}copy/")).json()
    assert copied["counter"] == 2
    assert copied["interpolated_command"] == made["interpolated_command"]
    assert (await lab.me.delete(made["url"])).status_code == 204
    assert (await lab.me.get(made["url"])).status_code == 404
    assert [item["counter"] for item in (await lab.me.get(f"{URL}?deleted=True")).json()["results"]] == [1]


async def test_waiting_says_why(lab) -> None:
    made = await lab.created()
    answer = await lab.me.get(f"/api/v1/executions/{made['id']}/waiting")
    assert answer.status_code == 200
    assert answer.json()["blockers"]


async def test_logs_pass_through_byte_by_byte(lab, relay) -> None:
    made = await lab.created()
    relay.body = b'{"total": 3,  "truncated":true,"events":[]}'
    answer = await lab.me.get(f"{made['url']}events/?limit=100")
    assert answer.content == relay.body
    await lab.me.get(f"{made['url']}status-events/?limit=7")
    await lab.me.get(f"{made['url']}metadata/")
    await lab.me.get(f"{made['url']}log/")
    prefix = f"GET /internal/v1/executions/{made['id']}"
    assert relay.requests == [
        f"{prefix}/events?limit=100 HTTP/1.1",
        f"{prefix}/status-events?limit=7 HTTP/1.1",
        f"{prefix}/metadata HTTP/1.1",
        f"{prefix}/log HTTP/1.1",
    ]


async def test_cumulative_metadata_comes_from_the_relays_view(lab, execute) -> None:
    made = await lab.created()
    await execute("INSERT INTO logs.metadata_latest VALUES ($1, NULL, $2, 1)", made["id"], json.dumps({"acc": 0.9}))
    assert (await lab.me.get(made["url"])).json()["cumulative_metadata"] == {"acc": 0.9}


async def test_groups_are_taken_by_name_and_id_and_their_secrets_reach_the_worker_alone(lab) -> None:
    me = (await lab.me.get("/api/v0/users/me/")).json()["username"]
    owner = f"/api/v1/owners/{me}"
    await lab.me.put(f"{owner}/environment-variables/EVERYWHERE", json={"value": "owner"})
    variables = {"TOKEN": {"value": "group-canary", "secret": True}, "A": {"value": "group"}, "G": {"value": "1"}}
    made = await lab.me.post(
        f"{owner}/environment-variable-groups", json={"name": "Cloud", "environment_variables": variables}
    )
    assert made.status_code == 201, made.text
    url = f"/api/v0/projects/{lab.project['id']}/environment_variable/"
    await lab.me.post(url, json={"name": "G", "value": "project"})
    found = (await lab.created(environment_variable_groups=["cloud", made.json()["id"]]))["environment_variables"]
    assert found == {
        "EVERYWHERE": {"value": "owner", "secret": False},
        "G": {"value": "1", "secret": False},
        "TOKEN": {"value": None, "secret": True},
        "A": {"value": "step", "secret": False},
    }
    plain = (await lab.created())["environment_variables"]
    assert (plain["G"]["value"], "TOKEN" in plain) == ("project", False)
    wrong = await lab.me.post(
        URL,
        json={
            "project": lab.project["id"],
            "commit": "main",
            "step": "pre",
            "environment_variable_groups": ["nothing"],
        },
    )
    (problem,) = wrong.json()["environment_variable_groups"]
    assert (wrong.status_code, problem["code"], "there are: Cloud" in problem["message"]) == (
        400,
        "does_not_exist",
        True,
    )
