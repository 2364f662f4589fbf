"""Rows 1 to 9 of the compatibility plan: login, projects and links."""

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest

from tests.e2e.support.api import Api
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import PASSWORD, Lab
from tests.e2e.support.pages import Browser

pytestmark = pytest.mark.vh


def test_login_with_a_password_stores_host_token_and_user(lab: Lab, new_desk: Desk) -> None:
    """Row 1."""
    login = lab.platform.credentials
    answer = new_desk.vh("login", "--host", login["url"], "-u", login["username"], "-p", login["password"], "-y")
    assert f"Logged in. Hey {login['username']}!" in answer.err
    stored = new_desk.settings
    assert stored["host"] == login["url"]
    assert stored["user"]["username"] == login["username"]
    assert isinstance(stored["user"]["id"], int)
    with Api(login["url"], stored["token"]) as client:
        assert client.get("users/me/")["username"] == login["username"]


def test_login_with_a_wrong_password_shows_our_words_and_stores_nothing(lab: Lab, new_desk: Desk) -> None:
    """Row 2."""
    answer = new_desk.vh("login", "--host", lab.platform.url, "-u", "admin", "-p", "wrong-password", "-y", code=1)
    assert "The user name or the password is wrong" in answer.err
    assert "token" not in new_desk.settings
    assert "wrong-password" not in lab.platform.service_logs(lines=10_000)


def test_login_with_a_token_asks_only_who_it_is(lab: Lab, new_desk: Desk) -> None:
    """Row 3."""
    login = lab.platform.credentials
    answer = new_desk.vh("login", "--host", login["url"], "--token", login["token"], "-y")
    assert f"Logged in. Hey {login['username']}!" in answer.err
    assert new_desk.settings["token"] == login["token"]


def test_login_of_an_external_user_leads_to_the_token_page(lab: Lab, new_desk: Desk) -> None:
    """Row 4, with an external identity; the page for making a token exists."""
    name = f"external-{uuid4().hex[:6]}"
    lab.platform.add_user(name, PASSWORD)
    lab.platform.slipway("user", "external", name)
    with Api(lab.platform.url, None) as nobody:
        refused = nobody.call("POST", "get-token/", data={"username": name, "password": PASSWORD})
        assert refused.status_code == 400
        assert refused.json()["code"] == "has_external_identity"
    answer = new_desk.vh("login", "--host", lab.platform.url, "-u", name, "-p", PASSWORD, "-y", code=1)
    assert f"{lab.platform.url}/auth/tokens/" in answer.both
    assert "token" not in new_desk.settings
    with Browser(lab.platform.url) as browser:
        assert browser.page("/auth/tokens/").status_code == 200


def test_a_revoked_token_is_refused_with_our_words(lab: Lab, new_desk: Desk) -> None:
    """Row 5: log in, revoke the token on its page, and try to work on."""
    login = lab.platform.credentials
    with Browser(lab.platform.url) as browser:
        browser.login(login["username"], login["password"])
        token = browser.make_token("to be revoked")
        new_desk.vh("login", "--host", login["url"], "--token", token, "-y")
        new_desk.vh("project", "list")
        browser.revoke_token("to be revoked")
    with Api(lab.platform.url, token) as revoked:
        refused = revoked.call("GET", "users/me/")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Token"
        assert refused.json().keys() == {"message", "code"}
    answer = new_desk.vh("project", "list", code=1)
    assert refused.json()["message"] in re.sub(r"\s+", " ", answer.err)


def test_project_create_links_the_folder_and_refuses_the_name_a_second_time(
    lab: Lab, prepared_desk: Desk, tmp_path: Path
) -> None:
    """Rows 6 and 7."""
    owner = lab.platform.credentials["username"]
    desk = prepared_desk.copy(tmp_path / "home").elsewhere(tmp_path / "fresh")
    desk.folder.mkdir()
    name = f"Made by vh {uuid4().hex[:6]}"
    created = desk.vh("project", "create", "-n", name, "-o", owner, "-d", "a description", "-y")
    assert f"Project {owner}/{name} created." in created.both
    assert re.search(rf"Linked .*{re.escape(str(desk.folder))} to {re.escape(name)}\.", created.both)
    again = desk.vh("project", "create", "-n", name, "-o", owner, "-y", code=1)
    assert "name" in again.err.lower()
    assert "already" in again.err
    assert "unique" in again.err
    listed = [one for one in lab.api.get("projects/", limit=9000)["results"] if one["name"] == name]
    assert [one["description"] for one in listed] == ["a description"]


def test_project_list_as_json(lab: Lab, desk: Desk) -> None:
    """Row 8."""
    listed = desk.json("project", "list")
    assert {"name": lab.name, "description": "End-to-end tests"} in [
        {key: one[key] for key in ("name", "description")} for one in listed
    ]


def test_project_link_in_a_fresh_folder(lab: Lab, prepared_desk: Desk, tmp_path: Path) -> None:
    """Row 9."""
    desk = prepared_desk.copy(tmp_path / "home").elsewhere(tmp_path / "elsewhere")
    desk.folder.mkdir()
    answer = desk.vh("project", "link", lab.name, "-y")
    assert f"to {lab.name}" in answer.both
    assert desk.settings["links"][str(desk.folder)]["id"] == lab.project
    status = desk.vh("project", "status")
    assert "Traceback" not in status.both


def test_environment_variables_of_a_project(lab: Lab, desk: Desk) -> None:
    """Beside the rows: what later tests rely on; a secret is never shown again."""
    name = f"E2E_SECRET_{uuid4().hex[:6].upper()}"
    desk.vh("project", "environment-variables", "create", "--secret", f"{name}=very-secret-value-1")
    shown = lab.api.get(f"projects/{lab.project}/")["environment_variables"]
    assert shown[name] == {"value": None, "secret": True}
    assert "very-secret-value-1" not in json.dumps(desk.json("project", "environment-variables", "list"))
    desk.vh("project", "environment-variables", "delete", name)
    assert name not in lab.api.get(f"projects/{lab.project}/")["environment_variables"]
    desk.vh("project", "environment-variables", "delete", name, code=1)
