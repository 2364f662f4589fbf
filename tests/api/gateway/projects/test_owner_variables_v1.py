"""`owners/<owner>/environment-variables` and groups of them: who sees them, who changes them."""

import json

import pytest

from slipway_gateway.context import Factory, GatewayContext

URL = "/api/v1/owners/acme/environment-variables"
GROUPS = "/api/v1/owners/acme/environment-variable-groups"


@pytest.fixture
async def acme(people, me, other, context: GatewayContext) -> None:
    """An organization with `me` as its administrator and `other` as a member."""
    await people.organization("acme", "me", "other")
    async with context.db.transaction() as session:
        await Factory(context, session).accounts.add_member("acme", "me", is_admin=True)


async def test_variables_are_set_shown_and_removed_and_secrets_are_write_only(me, acme):
    assert (await me.get(URL)).json() == {"environment_variables": {}, "editable": True}
    assert (await me.put(f"{URL}/REGION", json={"value": "north"})).json() == {"value": "north", "secret": False}
    assert (await me.put(f"{URL}/KEY", json={"value": "canary-1", "secret": True})).json() == {
        "value": None,
        "secret": True,
    }
    shown = await me.get(URL)
    assert shown.json()["environment_variables"] == {
        "KEY": {"value": None, "secret": True},
        "REGION": {"value": "north", "secret": False},
    }
    assert (await me.delete(f"{URL}/REGION")).status_code == 204
    missing = await me.delete(f"{URL}/REGION")
    assert (missing.status_code, "REGION" in missing.json()["detail"]) == (404, True)
    assert list((await me.get(URL)).json()["environment_variables"]) == ["KEY"]


async def test_groups_are_made_changed_and_removed(me, acme):
    body = {"name": "Cloud", "environment_variables": {"A": {"value": "1"}, "S": {"value": "canary-2", "secret": True}}}
    made = await me.post(GROUPS, json=body)
    assert made.status_code == 201, made.text
    assert made.json()["environment_variables"] == {
        "A": {"value": "1", "secret": False},
        "S": {"value": None, "secret": True},
    }
    twice = await me.post(GROUPS, json={"name": "cloud"})
    assert (twice.status_code, "unique" in twice.text) == (400, True)
    one = f"{GROUPS}/{made.json()['id']}"
    assert (await me.patch(one, json={"name": "Clouds", "description": "All of them"})).json()["name"] == "Clouds"
    assert (await me.put(f"{one}/environment-variables/B", json={"value": "2"})).status_code == 200
    assert (await me.delete(f"{one}/environment-variables/A")).status_code == 204
    (listed,) = (await me.get(GROUPS)).json()["items"]
    assert (listed["description"], list(listed["environment_variables"])) == ("All of them", ["B", "S"])
    assert (await me.get(f"{GROUPS}/CLOUDS")).json() == listed
    assert (await me.delete(one)).status_code == 204
    gone = await me.get(one)
    assert (gone.status_code, "there are: none" in gone.text) == (404, True)


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("1A", {"value": "x"}, "name"),
        ("A", {"value": "x" * 70_000}, "value"),
        ("A", {"value": "a\0b"}, "value"),
        ("A", {"value": "x", "secert": True}, "secert"),
    ],
)
async def test_what_cannot_be_a_variable_is_refused(me, acme, name, body, field):
    answer = await me.put(f"{URL}/{name}", json=body)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["fields"], answer.text
    assert (await me.get(URL)).json()["environment_variables"] == {}


async def test_what_no_database_can_keep_is_refused(me, acme):
    for body in ({"name": "g", "description": "a\0b"}, {"name": "g\0"}, {"name": "g", "description": "\ud800"}, []):
        answer = await me.post(GROUPS, content=json.dumps(body))
        assert answer.status_code == 400, answer.text
    for url in (f"{URL}/%00", f"{GROUPS}/%00", f"{GROUPS}/%00/environment-variables/%00", "/api/v1/owners/%00/x"):
        assert (await me.delete(url)).status_code == 404, url
    assert (await me.put(f"{URL}/%00", json={"value": "x"})).status_code == 400


async def test_members_see_and_only_administrators_change(me, other, people, acme):
    await me.put(f"{URL}/KEY", json={"value": "canary-3", "secret": True})
    await me.post(GROUPS, json={"name": "cloud"})
    seen = (await other.get(URL)).json()
    assert (seen["editable"], seen["environment_variables"]["KEY"]["value"]) == (False, None)
    for method, url, body in (
        ("PUT", f"{URL}/A", {"value": "x"}),
        ("DELETE", f"{URL}/KEY", None),
        ("POST", GROUPS, {"name": "mine"}),
        ("PATCH", f"{GROUPS}/cloud", {"name": "mine"}),
        ("DELETE", f"{GROUPS}/cloud", None),
        ("PUT", f"{GROUPS}/cloud/environment-variables/A", {"value": "x"}),
        ("DELETE", f"{GROUPS}/cloud/environment-variables/A", None),
    ):
        answer = await other.request(method, url, json=body)
        assert (answer.status_code, "slipway org member add --admin" in answer.text) == (403, True), (method, url)
    async with await people.client("stranger") as stranger:
        for url in (URL, GROUPS, f"{GROUPS}/cloud", "/api/v1/owners/nobody/environment-variables"):
            assert (await stranger.get(url)).status_code == 404, url
        assert (await stranger.put(f"{URL}/A", json={"value": "x"})).status_code == 404


async def test_people_keep_variables_of_their_own(me, other):
    url = "/api/v1/owners/me/environment-variables"
    assert (await me.put(f"{url}/A", json={"value": "mine"})).status_code == 200
    assert (await other.get(url)).status_code == 404
