"""The operator's commands for accounts, against a real database."""

import asyncio

import pytest
from typer.testing import CliRunner

from slipway_gateway.__main__ import admin_cli

LOGIN = {"username": "me", "password": "correct horse"}


@pytest.fixture
def command(settings, monkeypatch):
    """Runs a command of `slipway-gateway` with the settings of this test; gives its exit code and output."""
    values = {
        "DATABASE__URL": settings.database.url.get_secret_value(),
        "REDIS__URL": settings.redis.url.get_secret_value(),
        "KEYS__PRIVATE_KEY_FILE": settings.keys.private_key_file,
        "KEYS__TRUSTED_KEYS_DIR": settings.keys.trusted_keys_dir,
        "PUBLIC_URL": settings.public_url,
        "SECRET_KEY_FILE": settings.secret_key_file,
        "TOKEN_PEPPER_FILE": settings.token_pepper_file,
        "STORE__TYPE": settings.store.type,
        "STORE__PATH": settings.store.path,
        "STORE__SIGNING_KEY": settings.store.signing_key.get_secret_value(),
        "STORE__PUBLIC_URL": settings.store.public_url,
        "GIT__CACHE_DIR": settings.git.cache_dir,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SLIPWAY_GATEWAY__{name}", str(value))

    async def run(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, admin_cli(), list(arguments))
        return result.exit_code, result.output

    return run


async def test_two_factor_is_switched_on_and_off(command, anonymous, me):
    assert await command("user", "two-factor", "me", "on") == (0, "")
    assert (await anonymous.post("/api/v0/get-token/", data=LOGIN)).json()["code"] == "has_2fa"
    assert await command("user", "two-factor", "me", "off") == (0, "")
    assert (await anonymous.post("/api/v0/get-token/", data=LOGIN)).status_code == 200
    assert (await command("user", "two-factor", "me", "maybe"))[0] == 2


async def test_a_deactivated_user_is_shut_out_at_once_and_may_be_let_in_again(command, anonymous, me):
    assert await command("user", "deactivate", "me") == (0, "")
    assert (await me.get("/api/v0/users/me/")).status_code == 401
    assert (await anonymous.post("/api/v0/get-token/", data=LOGIN)).json()["code"] == "invalid_credentials"
    assert await command("user", "activate", "me") == (0, "")
    assert (await me.get("/api/v0/users/me/")).status_code == 200


async def test_a_member_who_is_removed_sees_the_projects_no_more(command, people, me, other):
    await people.organization("team", "me", "other")
    made = await me.post("/api/v0/projects/", data={"name": "shared", "owner": "team"})
    page = f"/api/v0/projects/{made.json()['id']}/"
    assert (await other.get(page)).status_code == 200
    assert await command("org", "member", "remove", "team", "other") == (0, "")
    assert (await other.get(page)).status_code == 404
    assert (await me.get(page)).status_code == 200
    code, output = await command("org", "member", "remove", "team", "other")
    assert (code, output.strip()) == (2, "'other' is not a member of 'team'.")


@pytest.mark.parametrize("words", [("two-factor", "ghost", "on"), ("deactivate", "ghost"), ("activate", "ghost")])
async def test_unknown_names_are_refused(command, words):
    code, output = await command("user", *words)
    assert code == 2
    assert "There is no user 'ghost'" in output


async def test_a_member_is_named_administrator_and_may_change_variables(command, people, me):
    await people.organization("acme", "me")
    url = "/api/v1/owners/acme/environment-variables/A"
    assert (await me.put(url, json={"value": "x"})).status_code == 403
    assert await command("org", "member", "add", "--admin", "acme", "me") == (0, "")
    assert (await me.put(url, json={"value": "x"})).status_code == 200
    assert await command("org", "member", "add", "acme", "me") == (0, "")
    assert (await me.put(url, json={"value": "x"})).status_code == 403


async def test_keys_of_secrets_are_rotated_and_what_is_left_is_said(
    command, me, project, settings, monkeypatch, tmp_path
):
    variable = {"name": "KEY", "value": "hush-hush", "secret": True}
    await me.post(f"{project['url']}environment_variable/", json=variable)
    code, output = await command("secrets", "rotate", "--new-key")
    assert (code, "OLDER_SECRET_KEYS_DIR" in output) == (2, True)
    before = settings.secret_key_file.read_bytes()
    monkeypatch.setenv("SLIPWAY_GATEWAY__OLDER_SECRET_KEYS_DIR", str(tmp_path / "older"))
    code, output = await command("secrets", "rotate", "--new-key")
    assert code == 0, output
    assert "1 were wrapped anew" in output
    assert "The platform needs these keys no more" in output
    (kept,) = (tmp_path / "older").iterdir()
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (before, 0o600)
    assert settings.secret_key_file.read_bytes() != before
    code, output = await command("secrets", "rotate")
    assert (code, "0 were wrapped anew" in output) == (0, True)
