"""Login, logout and tokens, as a browser goes through them."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from slipway_gateway.app import public_app
from slipway_gateway.context import Factory, GatewayContext, open_context
from slipway_gateway.identity.dependencies import SESSION_COOKIE
from slipway_gateway.identity.domain import ATTEMPT_LIMIT, TokenKind
from slipway_gateway.web.auth import own_path

PASSWORD = " correct horse "
LOGIN, LOGOUT, TOKENS, REVOKE = "/auth/login/", "/auth/logout/", "/auth/tokens/", "/auth/tokens/revoke/"


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


async def send(browser: httpx.AsyncClient, page: str, action: str | None = None, **fields: str) -> httpx.Response:
    """Post a form of `page` with its CSRF token."""
    token = csrf_of((await browser.get(page)).text)
    return await browser.post(action or page, data={"csrf_token": token, **fields})


async def me_with(browser: httpx.AsyncClient, token: str) -> int:
    """What the API answers to this token, from a client without cookies."""
    browser.cookies.clear()
    return (await browser.get("/api/v0/users/me/", headers={"Authorization": f"Token {token}"})).status_code


async def issue(context: GatewayContext, *, expires_at: datetime | None = None) -> str:
    async with context.db.transaction() as session:
        services = Factory(context, session)
        user = await services.accounts.user("kim")
        made = await services.tokens.issue(user.id, TokenKind.API, name="given", expires_at=expires_at)
    return made.value


@pytest.fixture
async def kim(context, anonymous) -> httpx.AsyncClient:
    """The browser of Kim, who is not logged in."""
    async with context.db.transaction() as session:
        await Factory(context, session).accounts.add_user("kim", password=PASSWORD)
    return anonymous


@pytest.fixture
async def session(kim) -> httpx.AsyncClient:
    """The browser of Kim, who is logged in."""
    assert (await send(kim, LOGIN, username="kim", password=PASSWORD)).status_code == 303
    return kim


@pytest.fixture
async def second(context) -> AsyncIterator[httpx.AsyncClient]:
    """Another browser or client."""
    transport = httpx.ASGITransport(app=public_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway.test") as client:
        yield client


async def test_from_the_wanted_page_through_the_login_and_out_again(kim):
    sent_away = await kim.get("/environments/")
    form = sent_away.headers["location"]
    answer = await send(kim, form, LOGIN, username="Kim", password=PASSWORD, next="/environments/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/environments/")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith(SESSION_COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/;" in cookie
    assert "Secure" not in cookie
    assert 'class="who" title="kim"' in (await kim.get("/environments/")).text
    assert (await kim.get(f"{LOGIN}?next=/environments/")).headers["location"] == "/environments/"

    value = kim.cookies[SESSION_COOKIE]
    out = await send(kim, TOKENS, LOGOUT)
    assert (out.status_code, out.headers["location"]) == (303, LOGIN)
    assert SESSION_COOKIE not in kim.cookies
    assert (await kim.get("/environments/")).status_code == 303
    kim.cookies[SESSION_COOKIE] = value
    assert (await kim.get("/environments/")).status_code == 303, "the server forgot the session too"


async def test_the_form_carries_where_to_go_on(kim):
    page = await kim.get(f"{LOGIN}?next=/p/a/b/executions/%3Fstatus%3Derror")
    assert 'name="next" value="/p/a/b/executions/?status=error"' in page.text


async def test_cookies_are_secure_on_https(settings):
    async with open_context(settings.model_copy(update={"public_url": "https://slipway.test"})) as context:
        async with context.db.transaction() as session:
            await Factory(context, session).accounts.add_user("kim", password=PASSWORD)
        transport = httpx.ASGITransport(app=public_app(context))
        async with httpx.AsyncClient(transport=transport, base_url="https://slipway.test") as browser:
            answer = await send(browser, LOGIN, username="kim", password=PASSWORD)
    cookies = answer.headers.get_list("set-cookie")
    assert any(one.startswith(SESSION_COOKIE) and "; Secure" in one for one in cookies), cookies


async def test_wrong_passwords_say_so_and_cannot_be_tried_for_long(kim):
    for name, password in (("kim", PASSWORD.strip()), ("nobody", "x"), ("", "")):
        answer = await send(kim, LOGIN, username=name, password=password, next="/environments/")
        assert answer.status_code == 400
        assert "The user name or the password is wrong." in answer.text
        assert re.search(rf'name="username" [^>]*value="{name}"', answer.text)
        assert 'name="next" value="/environments/"' in answer.text
        assert SESSION_COOKIE not in kim.cookies
    for _ in range(ATTEMPT_LIMIT):
        answer = await send(kim, LOGIN, username="kim", password="wrong")
    answer = await send(kim, LOGIN, username="kim", password=PASSWORD)
    assert answer.status_code == 403
    assert "Too many wrong passwords" in answer.text


@pytest.mark.parametrize(
    "wanted",
    ["//evil.test/", "https://evil.test/", "/\\evil.test", "\\\\evil.test", "/\t/evil.test", "\n//evil.test", "x", ""],
)
async def test_nobody_is_sent_to_another_site(kim, wanted):
    assert own_path(wanted) == "/"
    page = await kim.get(LOGIN, params={"next": wanted})
    assert 'name="next" value="/"' in page.text
    answer = await send(kim, LOGIN, username="kim", password=PASSWORD, next=wanted)
    assert answer.headers["location"] == "/"
    assert (await kim.get(LOGIN, params={"next": wanted})).headers["location"] == "/"


async def test_every_form_needs_its_token(session, second):
    page = (await session.get(TOKENS)).text
    token_id = await _made_id(session)
    for action, fields in ((TOKENS, {"name": "x"}), (REVOKE, {"id": token_id}), (LOGOUT, {})):
        for sent in ({}, {"csrf_token": "0" * 64}, {"csrf_token": csrf_of((await second.get(LOGIN)).text)}):
            answer = await session.post(action, data={**fields, **sent})
            assert answer.status_code == 403, (action, sent)
    after = (await session.get(TOKENS)).text
    assert token_id in after
    assert csrf_of(after) == csrf_of(page), "still the same session"

    login = {"username": "kim", "password": PASSWORD}
    for sent in ({}, {"csrf_token": "0" * 64}, {"csrf_token": csrf_of(page)}):
        answer = await second.post(LOGIN, data={**login, **sent})
        assert answer.status_code == 403
        assert SESSION_COOKIE not in second.cookies
        assert PASSWORD not in answer.text
    token = csrf_of((await second.get(LOGIN)).text)
    second.cookies.clear()
    assert (await second.post(LOGIN, data={**login, "csrf_token": token})).status_code == 403


async def _made_id(browser: httpx.AsyncClient, **fields: str) -> str:
    page = await send(browser, TOKENS, **{"name": "made", **fields})
    found = re.search(r'name="id" value="([0-9a-f-]{36})"', page.text)
    assert found is not None
    return found[1]


async def test_the_token_page_answers_everybody(kim):
    answer = await kim.get(TOKENS)
    assert answer.status_code == 200
    assert 'name="password"' in answer.text
    logged_in = await send(kim, TOKENS, LOGIN, username="kim", password=PASSWORD, next=TOKENS)
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, TOKENS)
    assert "You have no token." in (await kim.get(TOKENS)).text


async def test_a_token_is_shown_once_works_and_ends_at_once(session, second, context):
    answer = await send(session, TOKENS, name="<b>laptop</b>", days="7")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = re.search(r"vh login --host http://slipway.test --token (\S+?)<", answer.text)
    assert found is not None
    value = found[1]
    listed = (await session.get(TOKENS)).text
    assert value not in listed
    assert "&lt;b&gt;laptop&lt;/b&gt;" in listed
    assert f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}" in listed
    assert listed.count("never") == 1 + listed.count("empty: never"), "never used"

    assert await me_with(second, value) == 200
    await context.token_usage.flush()
    assert "<td>never</td>" not in (await session.get(TOKENS)).text
    token_id = re.search(r'name="id" value="([0-9a-f-]{36})"', listed)[1]
    assert (await send(session, TOKENS, REVOKE, id=token_id)).headers["location"] == TOKENS
    assert await me_with(second, value) == 401
    assert "You have no token." in (await session.get(TOKENS)).text
    assert (await send(session, TOKENS, REVOKE, id=token_id)).status_code == 404


async def test_an_expired_token_opens_nothing_and_is_marked(session, second, context):
    value = await issue(context, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert await me_with(second, value) == 401
    assert "expired" in (await session.get(TOKENS)).text
    assert (await send(second, LOGIN, token=value)).status_code == 400


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "A name has 1 to 100 characters."),
        ({"name": "n" * 101}, "A name has 1 to 100 characters."),
        ({"name": "kept", "days": "0"}, "Give whole days from 1 to 3650"),
        ({"name": "kept", "days": "9" * 400}, "Give whole days from 1 to 3650"),
        ({"name": "kept", "days": "-1"}, "Give whole days from 1 to 3650"),
        ({"name": "kept", "days": "1.5"}, "Give whole days from 1 to 3650"),
    ],
)
async def test_a_wrong_form_comes_back_with_the_problem(session, fields, problem):
    answer = await send(session, TOKENS, **fields)
    assert answer.status_code == 400
    assert problem in answer.text
    assert f'value="{fields["name"]}"' in answer.text
    assert "You have no token." in answer.text


async def test_tokens_of_others_cannot_be_revoked(session, bob):
    token_id = await _made_id(session)
    for sent in (token_id, "nonsense"):
        assert (await bob.send(TOKENS, REVOKE, id=sent)).status_code == 404
    assert token_id not in await bob.get(TOKENS)
    assert token_id in (await session.get(TOKENS)).text


@pytest.mark.parametrize(("setting", "says"), [("set_two_factor", "not enough"), ("set_external", "logs in elsewhere")])
async def test_who_cannot_log_in_by_password_does_by_token(kim, context, setting, says):
    value = await issue(context)
    async with context.db.transaction() as session:
        await getattr(Factory(context, session).accounts, setting)("kim", True)
    refused = await send(kim, LOGIN, username="kim", password=PASSWORD)
    assert refused.status_code == 400
    assert says in refused.text
    assert "<details" in refused.text
    assert re.search(r"<details[^>]* open", refused.text)
    assert SESSION_COOKIE not in kim.cookies
    answer = await send(kim, LOGIN, token=f" {value} ", next=TOKENS)
    assert (answer.status_code, answer.headers["location"]) == (303, TOKENS)
    assert "given" in (await kim.get(TOKENS)).text
    assert kim.cookies[SESSION_COOKIE] != value


async def test_a_session_by_token_ends_with_its_token(kim, second, context):
    value = await issue(context)
    assert (await send(kim, LOGIN, token=value)).status_code == 303
    assert (await send(second, LOGIN, username="kim", password=PASSWORD)).status_code == 303
    token_id = re.search(r'name="id" value="([0-9a-f-]{36})"', (await second.get(TOKENS)).text)[1]
    assert (await send(second, TOKENS, REVOKE, id=token_id)).status_code == 303
    assert (await kim.get("/environments/")).status_code == 303
    assert (await second.get("/environments/")).status_code == 200


async def test_a_session_by_token_lasts_no_longer_than_the_token(kim, context, execute):
    value = await issue(context, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await send(kim, LOGIN, token=value)).status_code == 303
    assert (await kim.get("/environments/")).status_code == 200
    statement = "UPDATE gateway.tokens SET expires_at = expires_at - interval '2 hours' WHERE kind = 'session'"
    assert await execute(statement) == "UPDATE 1"
    assert (await kim.get("/environments/")).status_code == 303


async def test_a_session_is_no_token_and_a_wrong_token_opens_nothing(session, second):
    for value in (session.cookies[SESSION_COOKIE], "no-such-token", ""):
        answer = await send(second, LOGIN, token=value)
        assert answer.status_code == 400
        assert "This token is wrong" in answer.text
        assert SESSION_COOKIE not in second.cookies
        assert not value or value not in answer.text


async def test_logging_out_leaves_the_token_alone_that_opened_the_session(kim, second, context):
    value = await issue(context)
    await send(kim, LOGIN, token=value)
    assert (await send(kim, TOKENS, LOGOUT)).status_code == 303
    assert await me_with(second, value) == 200
