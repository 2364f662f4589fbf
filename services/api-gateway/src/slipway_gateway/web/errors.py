"""Errors as pages, where a browser asked for a page; the APIs keep their own forms."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from slipway_gateway.identity.dependencies import context_of
from slipway_gateway.web.access import login_url, session_user
from slipway_gateway.web.rendering import render
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger

_LOG = get_logger()
_NOT_PAGES = ("/api/v0/", "/api/v1/", "/request-input-data", "/workers/", "/_store/", "/static/", "/openapi.json")
_TITLES = {
    400: "This does not work",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Not possible now",
    413: "Too large",
    503: "Not available now",
}
_UNAUTHORIZED, _INTERNAL = 401, 500

Handler = Callable[[Request, Exception], Awaitable[Response]]


def install_page_errors(app: FastAPI) -> None:
    """Give browsers pages for errors outside of the APIs. Call it after the APIs' own handlers are installed."""
    for kind in (SlipwayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _in_html(app.exception_handlers[kind]))


class PageRoute(APIRoute):
    """A route of a page: what nobody expected becomes a page too, and is logged with its trace."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler with the guard around it."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except (SlipwayError, RequestValidationError, HTTPException):
                raise
            except Exception:  # noqa: BLE001 - whatever it is, the browser gets a page
                _LOG.exception("page_crashed", path=request.url.path, method=request.method)
                return await error_page(request, _INTERNAL, "Something went wrong on the server.")

        return guarded


def _in_html(api_handler: Any) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        answer: Response = await api_handler(request, error)
        if request.url.path.startswith(_NOT_PAGES):
            return answer
        if answer.status_code == _UNAUTHORIZED:
            return RedirectResponse(login_url(request), 303)
        message = error.message if isinstance(error, SlipwayError) else ""
        return await error_page(request, answer.status_code, message)

    return handle


async def error_page(request: Request, status: int, message: str) -> Response:
    """A page that says what went wrong and how to go on."""
    user = None
    if status != _INTERNAL:
        user = await session_user(request, context_of(request))
    return render(
        request,
        "error.html",
        user=user,
        status=status,
        number=status,
        title=_TITLES.get(status, "Something went wrong"),
        message=message,
        request_id=request.scope.get("state", {}).get("request_id"),
    )
