"""What other clients of the compatible API send and read (contract 1.4), and lists and references of projects."""

from uuid import uuid4

STORE = "00000000-0000-7000-8000-000000000001"
MISSING = "00000000-0000-7000-8000-00000000dead"


async def test_projects_are_made_changed_and_deleted_with_json(me, people):
    await people.organization("lab-org", "me")
    for number, owner in enumerate(("lab-org", {"slug": "lab-org"})):
        body = {"name": f"vision-{number}", "owner": owner, "description": "d", "template": None}
        answer = await me.post("/api/v0/projects/", json={**body, "default_notifications": True})
        assert answer.status_code == 201, answer.text
        assert answer.json()["owner"]["username"] == "lab-org"
    made = answer.json()
    changed = await me.put(made["url"], json={"name": "renamed", "owner": {"slug": "lab-org"}, "description": "new"})
    assert (changed.status_code, changed.json()["name"], changed.json()["description"]) == (200, "renamed", "new")
    assert (await me.get(made["url"])).json()["id"] == made["id"]
    assert (await me.delete(made["url"])).status_code == 204
    gone = await me.get(made["url"])
    assert (gone.status_code, set(gone.json())) == (404, {"message", "code"})
    assert (await me.delete(made["url"])).status_code == 404
    taken = await me.post("/api/v0/projects/", json={"name": "vision-0", "owner": "lab-org"})
    assert (taken.status_code, taken.json()["name"][0]["code"]) == (400, "unique")


async def test_repositories_and_commits_of_all_projects(me, other, people, project, execute):
    for client in (me, other):
        mine = (await client.post("/api/v0/projects/", json={"name": "second"})).json()
        linked = await client.put(f"{mine['url']}repository/", json={"url": f"https://git.example/{mine['id']}.git"})
        for number in range(2):
            await execute(
                "INSERT INTO gateway.commits (id, project_id, repository_id, identifier, ref, commit_time, yaml_path)"
                " VALUES ($1, $2, $3, $4, 'main', to_timestamp($5), 'valohai.yaml')",
                uuid4(),
                mine["id"],
                linked.json()["id"],
                f"{number}" * 40,
                1_700_000_000 + number,
            )
    listed = (await other.get("/api/v0/repositories/?limit=10000")).json()
    assert [(item["id"], item["project"]["id"]) for item in listed["results"]] == [(linked.json()["id"], mine["id"])]
    commits = (await other.get("/api/v0/commits/?limit=10000&ordering=-commit_time")).json()["results"]
    assert [item["identifier"] for item in commits] == ["1" * 40, "0" * 40]
    assert {(item["repository"], item["ref"], item["project_id"]) for item in commits} == {
        (linked.json()["id"], "main", mine["id"])
    }
    newest = (await other.get(f"/api/v0/commits/{'1' * 40}/")).json()
    assert newest["project_id"] == mine["id"]


async def test_index_names_the_lists_and_server_its_flavor(anonymous):
    index = await anonymous.get("/api/v0/")
    assert index.status_code == 200
    for name in ("projects", "commits", "repositories", "executions", "data", "stores", "environments", "server"):
        assert index.json()[name].endswith(f"/api/v0/{name}/")
    found = (await anonymous.get("/api/v0/server/")).json()
    assert found.keys() == {"flavor", "version"}
    assert "valohai" not in found["flavor"].lower()


async def test_stores_and_environments_of_a_project_must_exist_for_the_caller(me, other, project, environment, execute):
    hidden = uuid4()
    owner = (await other.get("/api/v0/users/me/")).json()["id"]
    await execute(
        "INSERT INTO scheduler_pub.environment_v1"
        " VALUES ($1, 'hidden', 'H', '', $2, true, 'x', '', 0, 0, '{}', 0, NULL)",
        hidden,
        owner,
    )
    for field, values in {
        "default_store": (MISSING,),
        "upload_store": (MISSING,),
        "default_environment": (MISSING, "nothing", "hidden", str(hidden)),
    }.items():
        for value in values:
            answer = await me.patch(project["url"], json={field: value, "description": "never"})
            assert answer.status_code == 400, (field, value)
            assert answer.json()[field][0]["code"] == "does_not_exist"
    assert (await me.patch(project["url"], json={"default_store": "no-uuid"})).json()["default_store"]
    assert (await me.get(project["url"])).json()["description"] == "desc"
    body = {"default_store": STORE, "upload_store": STORE, "default_environment": "local"}
    answer = await me.patch(project["url"], json=body)
    assert (answer.status_code, answer.json()["default_environment"]) == (200, environment["id"])


async def test_environments_are_ordered_and_paged_as_other_lists(me, execute):
    for slug, name, price in (("a", "Zeta", 3), ("b", "alpha", 1), ("c", "Beta", 2)):
        await execute(
            "INSERT INTO scheduler_pub.environment_v1"
            " VALUES (gen_random_uuid(), $1, $2, '', NULL, true, 'static', '', $3, 0, '{}', 0, NULL)",
            slug,
            name,
            price,
        )

    async def slugs(query: str) -> str:
        answer = await me.get(f"/api/v0/environments/?{query}")
        assert answer.status_code == 200, answer.text
        return "".join(item["slug"] for item in answer.json()["results"])

    assert await slugs("limit=9000") == "bca"
    assert await slugs("ordering=-name") == "acb"
    assert await slugs("ordering=slug") == "abc"
    assert await slugs("ordering=-per_hour_price_usd") == "acb"
    assert await slugs("limit=1&offset=1") == "c"
    assert await slugs("offset=5") == ""
    first = (await me.get("/api/v0/environments/?limit=2&ordering=slug")).json()
    assert (first["count"], [item["slug"] for item in first["results"]]) == (3, ["a", "b"])
    second = (await me.get(first["next"])).json()
    assert ([item["slug"] for item in second["results"]], second["next"]) == (["c"], None)
    assert (await me.get("/api/v0/environments/?no_count=true")).json()["count"] is None
    refused = await me.get("/api/v0/environments/?ordering=color")
    assert (refused.status_code, refused.json()["ordering"][0]["code"]) == (400, "invalid_choice")


async def test_nul_in_an_address_is_told_so(me, project):
    for path in (
        "/api/v0/commits/a%00b/",
        f"/api/v0/commits/?project={project['id']}&identifier=%00",
        "/api/v0/projects/?name=%00",
    ):
        answer = await me.get(path)
        assert answer.status_code in {400, 404}, path
