"""Who calls, as FastAPI parameters, and the request's services."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity import csrf
from slipway_gateway.identity.domain import User
from slipway_gateway.identity.store import IdentityStore
from slipway_kit.auth import token_hash
from slipway_kit.errors import Forbidden, Unauthorized

SESSION_COOKIE = "slipway_session"
_USER_TOKEN: Final = APIKeyHeader(
    name="Authorization", scheme_name="token", description="`Token <token of a user>`", auto_error=False
)


def context_of(request: Request) -> GatewayContext:
    """The context of the process that serves this request."""
    context: GatewayContext = request.app.state.context
    return context


Context = Annotated[GatewayContext, Depends(context_of)]
"""The process context, for routes that open units of work of their own."""


async def user_of_token(context: GatewayContext, value: str) -> User | None:
    """The user behind a token or session value, or None when it opens nothing."""
    async with context.db.read() as session:
        found = await IdentityStore(session).user_by_token(token_hash(value, context.token_pepper))
    if found is None:
        return None
    user, token_id = found
    context.token_usage.note(token_id, context.clock.now())
    return user


async def current_user(request: Request, context: Context, _: Annotated[str | None, Security(_USER_TOKEN)]) -> User:
    """The caller, by `Authorization: Token …` or by session cookie.

    Raises `Unauthorized`; `Forbidden` when a browser's request that changes something lacks the CSRF token.
    Its unit of work is closed before the route runs, so the route may open its own.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, value = header.partition(" ")
        user = await user_of_token(context, value.strip()) if scheme.lower() == "token" else None
        if user is None:
            raise Unauthorized(
                "This token is not valid: it is wrong, has expired or was revoked. Log in again.", code="invalid_token"
            )
        return user
    cookie = request.cookies.get(SESSION_COOKIE)
    user = await user_of_token(context, cookie) if cookie else None
    if cookie is None or user is None:
        raise Unauthorized("Send a token in the header `Authorization: Token <token>`.")
    if request.method not in csrf.SAFE_METHODS and not csrf.csrf_matches(
        request.headers.get(csrf.HEADER), cookie, context.token_pepper
    ):
        raise Forbidden(f"The header {csrf.HEADER} is missing or wrong. Reload the page.", code="csrf_failed")
    return user


CurrentUser = Annotated[User, Depends(current_user)]
"""The caller; without one the answer is 401."""


async def _services(context: Context) -> AsyncIterator[Factory]:
    async with context.db.transaction() as session:
        yield Factory(context, session)


async def _read_services(context: Context) -> AsyncIterator[Factory]:
    async with context.db.read() as session:
        yield Factory(context, session)


Services = Annotated[Factory, Depends(_services, scope="function")]
"""The request's services in one transaction, committed before the answer is sent."""
ReadServices = Annotated[Factory, Depends(_read_services, scope="function")]
"""The request's services in one read-only unit of work."""
