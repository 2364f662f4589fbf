"""`projects/` of the compatible API."""

import pytest
from sqlalchemy import text

from slipway_gateway.context import Factory


async def test_create_answers_with_the_whole_project(project):
    assert project["name"] == "lab"
    assert project["owner"]["username"] == "me"
    assert project["yaml_path"] == "valohai.yaml"
    assert project["execution_summary"] == {"count": 0}
    assert project["urls"]["display"].startswith("http://slipway.test/p/me/lab/")
    assert project["ctime"].endswith("Z")


async def test_create_takes_json_with_any_form_of_owner(me, people):
    await people.organization("acme", "me")
    owner_id = (await me.get("/api/v0/users/me/")).json()["id"]
    for number, owner in enumerate(["me", "ACME", owner_id, {"slug": "acme"}]):
        answer = await me.post("/api/v0/projects/", json={"name": f"p{number}", "owner": owner})
        assert answer.status_code == 201, answer.text
    options = (await me.get("/api/v0/projects/ownership_options/")).json()
    assert options == ["me", "acme"]


async def test_names_are_unique_per_owner_without_case(me, other, project):
    answer = await me.post("/api/v0/projects/", data={"name": "LAB"})
    assert answer.status_code == 400
    assert answer.json()["name"][0]["code"] == "unique"
    assert (await other.post("/api/v0/projects/", data={"name": "lab"})).status_code == 201


async def test_names_that_give_the_same_slug_get_different_addresses(me):
    first = (await me.post("/api/v0/projects/", data={"name": "a b"})).json()
    second = (await me.post("/api/v0/projects/", data={"name": "a-b"})).json()
    assert first["slug"] == "a-b"
    assert second["slug"] == "a-b-2"


@pytest.mark.parametrize("name", ["", "  ", "a/b", "x" * 129, "a\u0000b"])
async def test_bad_names_are_field_errors(me, name):
    answer = await me.post("/api/v0/projects/", json={"name": name})
    assert answer.status_code == 400
    assert answer.json()["name"][0]["message"]


async def test_owner_that_is_not_yours_is_a_field_error(me, other):
    for owner in ("other", "nobody", 99999):
        answer = await me.post("/api/v0/projects/", json={"name": "x", "owner": owner})
        assert answer.status_code == 400
        assert answer.json()["owner"][0]["code"] == "does_not_exist"


async def test_what_you_may_not_see_does_not_exist(other, project):
    url = project["url"]
    assert (await other.get(url)).status_code == 404
    assert (await other.put(url, json={"name": "mine"})).status_code == 404
    assert (await other.delete(url)).status_code == 404
    variable = {"name": "A", "value": "b"}
    assert (await other.post(f"{url}environment_variable/", json=variable)).status_code == 404
    assert (await other.get("/api/v0/projects/")).json()["results"] == []


async def test_members_of_the_owning_organization_see_a_project(me, people):
    other = await people.client("colleague")
    await people.organization("acme", "me", "colleague")
    created = (await me.post("/api/v0/projects/", json={"name": "shared", "owner": "acme"})).json()
    assert (await other.get(created["url"])).status_code == 200


async def test_lists_page_by_cursor_and_by_offset(me):
    for number in range(5):
        await me.post("/api/v0/projects/", data={"name": f"p{number}"})
    seen, url = [], "/api/v0/projects/?limit=2"
    while url:
        page = (await me.get(url)).json()
        assert page["count"] == 5
        seen += [item["name"] for item in page["results"]]
        url = page["next"]
    assert seen == [f"p{number}" for number in range(5)]
    page = (await me.get("/api/v0/projects/?limit=2&offset=3&no_count=True")).json()
    assert ([item["name"] for item in page["results"]], page["count"]) == (["p3", "p4"], None)
    page = (await me.get("/api/v0/projects/?limit=9001&ordering=-name&exclude=owner, urls,nothing")).json()
    assert page["results"][0]["name"] == "p4"
    assert "owner" not in page["results"][0]
    assert (await me.get("/api/v0/projects/?ordering=shoe_size")).json()["ordering"][0]["code"] == "invalid_choice"
    assert (await me.get("/api/v0/projects/?cursor=nonsense")).status_code == 400
    assert (await me.get("/api/v0/projects/?limit=many")).json()["limit"]


async def test_update_changes_what_is_given(me, project):
    changes = {"description": "new", "yaml_path": "sub/valohai.yaml", "name": "renamed"}
    answer = await me.put(project["url"], json=changes)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in changes} == changes
    answer = await me.patch(project["url"], json={"yaml_path": "../up.yaml"})
    assert answer.json()["yaml_path"]
    assert answer.status_code == 400
    assert (await me.get(project["url"])).json()["yaml_path"] == "sub/valohai.yaml"


async def test_default_environment_is_set_by_slug(me, project, context, environment):
    answer = await me.patch(project["url"], json={"default_environment": environment["slug"]})
    assert answer.json()["default_environment"] == environment["id"]
    answer = await me.patch(project["url"], json={"default_environment": "nope"})
    assert answer.json()["default_environment"][0]["code"] == "does_not_exist"


async def test_delete_hides_the_project_frees_its_name_and_tells_others(me, project, context):
    assert (await me.delete(project["url"])).status_code == 204
    assert (await me.get(project["url"])).status_code == 404
    assert (await me.post("/api/v0/projects/", data={"name": "lab"})).status_code == 201
    async with context.db.read() as session:
        events = (await session.execute(text("SELECT name, payload FROM outbox"))).all()
    assert [(name, payload["project_id"]) for name, payload in events] == [("gateway.project.deleted", project["id"])]


async def test_variables_are_set_shown_and_removed(me, project):
    url = f"{project['url']}environment_variable/"
    await me.post(url, json={"name": "PLAIN", "value": "one"})
    await me.post(url, json={"name": "PLAIN", "value": "two", "secret": False})
    answer = await me.post(url, json={"name": "KEY", "value": "hush-hush", "secret": True})
    assert answer.json()["environment_variables"] == {
        "PLAIN": {"value": "two", "secret": False},
        "KEY": {"value": None, "secret": True},
    }
    assert (await me.request("DELETE", url, json={"name": "PLAIN"})).status_code == 200
    answer = await me.request("DELETE", url, json={"name": "PLAIN"})
    assert answer.status_code == 404
    answer = await me.post(url, json={"name": "1 bad", "value": "x"})
    assert (answer.status_code, list(answer.json())) == (400, ["name"])


async def test_secrets_are_encrypted_at_rest_and_bound_to_their_place(me, project, context):
    await me.post(f"{project['url']}environment_variable/", json={"name": "KEY", "value": "hush-hush", "secret": True})
    async with context.db.read() as session:
        (row,) = (await session.execute(text("SELECT scope_id, envelope FROM secrets"))).all()
        value = await Factory(context, session).secrets.value("project", row.scope_id, "KEY", 1)
    assert b"hush-hush" not in row.envelope
    assert value == "hush-hush"


async def test_summary_counts_by_status(me, project, context, execute):
    await execute(
        "INSERT INTO scheduler_pub.execution_v1 SELECT gen_random_uuid(), $1, n, s, now(), NULL"
        " FROM (VALUES (1, 'queued'), (2, 'complete'), (3, 'complete')) AS t (n, s)",
        project["id"],
    )
    detail = (await me.get(project["url"])).json()
    assert detail["execution_summary"] == {"count": 3, "complete_count": 2, "queued_count": 1}
    assert detail["last_execution_ctime"]


async def test_environments_show_what_the_caller_may_use(me, other, people, environment, execute):
    owner = (await other.get("/api/v0/users/me/")).json()["id"]
    await execute(
        "INSERT INTO scheduler_pub.environment_v1 SELECT gen_random_uuid(), 'private', 'Private', '', $1, true, 'x',"
        " '', 0, 0, '{}', 0, NULL",
        owner,
    )
    mine = (await me.get("/api/v0/environments/?limit=9000")).json()["results"]
    assert [item["slug"] for item in mine] == ["local"]
    assert mine[0]["per_user_queue_quota"] == 0
    assert len((await other.get("/api/v0/environments/")).json()["results"]) == 2
    assert (await me.get("/api/v0/environments/private/")).status_code == 404
    assert (await me.get(mine[0]["url"])).json()["name"] == "Local"


async def test_index_and_server(anonymous):
    assert "projects" in (await anonymous.get("/api/v0/")).json()
    assert (await anonymous.get("/api/v0/server")).json()["flavor"] == "slipway"


async def test_openapi_describes_the_api(anonymous):
    paths = (await anonymous.get("/openapi.json")).json()["paths"]
    assert "/api/v0/projects/{project_id}/" in paths
