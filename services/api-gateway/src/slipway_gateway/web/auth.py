"""The login page, and the end of a session."""

import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity import csrf
from slipway_gateway.identity.dependencies import SESSION_COOKIE, Context
from slipway_gateway.identity.domain import SESSION_LIFETIME, IssuedToken, TokenKind, User
from slipway_gateway.web.access import LOGIN_PATH, Form, PageForm, posted_form, session_user
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.rendering import render
from slipway_kit.errors import Forbidden, Invalid, SlipwayError

router = APIRouter(prefix="/auth", include_in_schema=False, route_class=PageRoute)

HOME = "/"
_COOKIE_PATH = "/auth/"
_NEEDS_TOKEN = {
    "has_2fa": "A password alone is not enough for this account. Log in with one of its tokens.",
    "has_external_identity": "This account logs in elsewhere and has no password here. Log in with one of its tokens.",
}


@dataclass(frozen=True)
class Refusal:
    """Why a login failed, for the part of the form that it belongs to."""

    message: str
    status: int
    by_token: bool


def own_path(wanted: str) -> str:
    """`wanted` if it is a path on this origin, else the first page.

    Browsers read a backslash as a slash and drop tabs and line ends, so `//host` has several spellings.
    """
    foreign = not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable()
    return HOME if foreign else wanted


def login_page(
    request: Request, context: GatewayContext, *, wanted: str, username: str = "", refusal: Refusal | None = None
) -> Response:
    """The login form. Its CSRF token belongs to a cookie of its own, as there is no session yet."""
    cookie = request.cookies.get(csrf.LOGIN_COOKIE) or secrets.token_urlsafe(32)
    answer = render(
        request,
        "login.html",
        status=refusal.status if refusal else 200,
        login_csrf=csrf.csrf_token(cookie, context.token_pepper),
        wanted=wanted,
        username=username,
        refusal=refusal,
    )
    answer.set_cookie(
        csrf.LOGIN_COOKIE, cookie, path=_COOKIE_PATH, httponly=True, samesite="lax", secure=_secure(context)
    )
    return answer


@router.get("/login/")
async def login_form(
    request: Request, context: Context, user: Annotated[User | None, Depends(session_user)]
) -> Response:
    """The form; who is logged in goes on."""
    wanted = own_path(request.query_params.get("next", HOME))
    if user is not None:
        return RedirectResponse(wanted, 303)
    return login_page(request, context, wanted=wanted)


@router.post("/login/")
async def login(request: Request, context: Context) -> Response:
    """Open a session by password or by token."""
    form = await posted_form(request)
    wanted, username = own_path(form.text("next", HOME)), form.text("username")
    cookie = request.cookies.get(csrf.LOGIN_COOKIE, "")
    by_token = form.has("token")
    if not cookie or not csrf.csrf_matches(form.text(csrf.FIELD), cookie, context.token_pepper):
        refusal = Refusal("This form was out of date. Send it again.", 403, by_token)
        return login_page(request, context, wanted=wanted, username=username, refusal=refusal)
    try:
        session = await _open_session(request, context, form)
    except (Invalid, Forbidden) as error:
        return login_page(request, context, wanted=wanted, username=username, refusal=_refusal(error, by_token))
    answer = RedirectResponse(wanted, 303)
    answer.set_cookie(
        SESSION_COOKIE,
        session.value,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_secure(context),
    )
    answer.delete_cookie(csrf.LOGIN_COOKIE, path=_COOKIE_PATH)
    return answer


@router.post("/logout/")
async def logout(request: Request, context: Context, _form: PageForm) -> Response:
    """End the session, here and on the server."""
    await _end_session(request, context)
    answer = RedirectResponse(LOGIN_PATH, 303)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax", secure=_secure(context))
    return answer


async def _open_session(request: Request, context: GatewayContext, form: Form) -> IssuedToken:
    if form.has("token"):
        _, session = await context.login.login_with_token(form.text("token"))
    else:
        address = request.client.host if request.client else ""
        _, session = await context.login.login(
            form.text("username"), form.exact("password"), address=address, kind=TokenKind.SESSION
        )
    await _end_session(request, context)
    return session


async def _end_session(request: Request, context: GatewayContext) -> None:
    if value := request.cookies.get(SESSION_COOKIE):
        async with context.db.transaction() as session:
            await Factory(context, session).tokens.end_session(value)


def _refusal(error: SlipwayError, by_token: bool) -> Refusal:
    status = 403 if isinstance(error, Forbidden) else 400
    message = _NEEDS_TOKEN.get(error.code)
    return Refusal(message or error.message, status, by_token or message is not None)


def _secure(context: GatewayContext) -> bool:
    return context.public_origin.startswith("https:")
