"""`get-token/`, `users/me/` and the tokens behind them."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from slipway_gateway.context import Factory
from slipway_gateway.identity.domain import ATTEMPT_LIMIT, TokenKind

LOGIN = {"username": "Me", "password": "correct horse"}


@pytest.mark.parametrize("how", ["data", "json"])
async def test_password_gives_a_token_that_works(anonymous, me, how):
    answer = await anonymous.post("/api/v0/get-token/", **{how: LOGIN})
    assert answer.status_code == 200
    headers = {"Authorization": f"Token {answer.json()['token']}"}
    user = (await anonymous.get("/api/v0/users/me/", headers=headers)).json()
    assert user["username"] == "me"
    assert isinstance(user["id"], int)


async def test_wrong_password_and_unknown_user_get_the_same_answer(anonymous, me):
    wrong = await anonymous.post("/api/v0/get-token/", data={**LOGIN, "password": "nope"})
    unknown = await anonymous.post("/api/v0/get-token/", data={"username": "nobody", "password": "nope"})
    assert wrong.status_code == unknown.status_code == 400
    assert wrong.json() == unknown.json()
    assert wrong.json()["code"] == "invalid_credentials"


async def test_missing_fields_answer_in_field_shape(anonymous):
    answer = await anonymous.post("/api/v0/get-token/", data={})
    assert answer.status_code == 400
    assert set(answer.json()) == {"username", "password"}


async def test_passwords_cannot_be_guessed_for_long(anonymous, me):
    for _ in range(ATTEMPT_LIMIT):
        await anonymous.post("/api/v0/get-token/", data={**LOGIN, "password": "nope"})
    answer = await anonymous.post("/api/v0/get-token/", data=LOGIN)
    assert answer.status_code == 403
    assert answer.json()["code"] == "too_many_attempts"


async def test_external_and_two_factor_users_are_sent_to_the_token_page(anonymous, me, context):
    async with context.db.transaction() as session:
        await Factory(context, session).accounts.set_external("me", True)
    answer = await anonymous.post("/api/v0/get-token/", data=LOGIN)
    assert (answer.status_code, answer.json()["code"]) == (400, "has_external_identity")
    async with context.db.transaction() as session:
        accounts = Factory(context, session).accounts
        await accounts.set_external("me", False)
        await accounts.set_two_factor("me", True)
    answer = await anonymous.post("/api/v0/get-token/", data=LOGIN)
    assert (answer.status_code, answer.json()["code"]) == (400, "has_2fa")


@pytest.mark.parametrize("header", [None, "Token nope", "Bearer nope", "Token", "nonsense"])
async def test_without_a_valid_token_the_answer_is_401(anonymous, header):
    headers = {} if header is None else {"Authorization": header}
    answer = await anonymous.get("/api/v0/users/me/", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Token"
    assert answer.json()["message"]


async def test_expired_revoked_and_disabled_open_nothing(anonymous, me, context):
    past = datetime.now(UTC) - timedelta(seconds=1)
    async with context.db.transaction() as session:
        services = Factory(context, session)
        user = await services.accounts.user("me")
        expired = await services.tokens.issue(user.id, TokenKind.API, name="old", expires_at=past)
        revoked = await services.tokens.issue(user.id, TokenKind.API, name="gone", expires_at=None)
        await services.tokens.revoke(user, revoked.id)
    for token in (expired, revoked):
        answer = await anonymous.get("/api/v0/users/me/", headers={"Authorization": f"Token {token.value}"})
        assert answer.status_code == 401
    assert (await me.get("/api/v0/users/me/")).status_code == 200
    async with context.db.transaction() as session:
        await Factory(context, session).accounts.set_active("me", False)
    assert (await me.get("/api/v0/users/me/")).status_code == 401


async def test_tokens_are_stored_as_keyed_hashes_and_their_use_is_noted(me, context):
    value = me.headers["Authorization"].removeprefix("Token ")
    await me.get("/api/v0/users/me/")
    await context.token_usage.flush()
    async with context.db.read() as session:
        user = await Factory(context, session).accounts.user("me")
        (token,) = await Factory(context, session).tokens.api_tokens(user)
        rows = (await session.execute(text("SELECT * FROM tokens"))).all()
    assert token.last_used_at is not None
    assert len(rows) == 1
    assert not any(value in str(row) for row in rows)
