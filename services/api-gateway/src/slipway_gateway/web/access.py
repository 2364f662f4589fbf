"""Who opens a page, and guards of the forms on it."""

from typing import Annotated
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request

from slipway_gateway.identity import csrf
from slipway_gateway.identity.dependencies import SESSION_COOKIE, Context, user_of_token
from slipway_gateway.identity.domain import User
from slipway_kit.errors import Forbidden, Invalid, TooLarge, Unauthorized

LOGIN_PATH = "/auth/login/"
MAX_FORM_BYTES = 1024 * 1024
MAX_FORM_FIELDS = 2000


async def session_user(request: Request, context: Context) -> User | None:
    """Who is logged in in this browser, if anybody."""
    cookie = request.cookies.get(SESSION_COOKIE)
    return await user_of_token(context, cookie) if cookie else None


async def _page_user(user: Annotated[User | None, Depends(session_user)]) -> User:
    if user is None:
        raise Unauthorized("Log in to see this page.")
    return user


PageUser = Annotated[User, Depends(_page_user)]
"""Who is logged in; anybody else is sent to the login page and comes back after it."""


class Form:
    """The fields of a posted form."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """The last value of a field, without surrounding spaces."""
        return next((value.strip() for key, value in reversed(self._fields) if key == name), default)

    def exact(self, name: str) -> str:
        """The last value of a field as it was typed, for passwords."""
        return next((value for key, value in reversed(self._fields) if key == name), "")

    def has(self, name: str) -> bool:
        """Whether the field was sent; a box that is not ticked is not."""
        return any(key == name for key, _ in self._fields)

    def starting_with(self, prefix: str) -> dict[str, str]:
        """The fields whose names begin so, without the prefix."""
        return {key.removeprefix(prefix): value for key, value in self._fields if key.startswith(prefix)}


async def posted_form(request: Request) -> Form:
    """The form in the body. Raises `TooLarge`, `Invalid`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"A form has at most {MAX_FORM_BYTES} bytes.")
    try:
        return Form(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError as error:
        raise Invalid("The form cannot be read. Reload the page and send it again.") from error


async def _page_form(request: Request, user: PageUser, context: Context) -> Form:
    form = await posted_form(request)
    cookie = request.cookies.get(SESSION_COOKIE, "")
    if not csrf.csrf_matches(form.text(csrf.FIELD), cookie, context.token_pepper):
        raise Forbidden(
            "This form is out of date or came from another site. Go back, reload the page and send it again.",
            code="csrf_failed",
        )
    return form


PageForm = Annotated[Form, Depends(_page_form)]
"""A form of the person who is logged in, sent from one of our own pages."""


def login_url(request: Request) -> str:
    """The login page, which leads back to where a request wanted to go."""
    wanted = request.url.path
    if request.url.query:
        wanted += f"?{request.url.query}"
    return LOGIN_PATH if request.method != "GET" else f"{LOGIN_PATH}?next={quote(wanted, safe='/')}"
