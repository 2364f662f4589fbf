"""Renders errors as HTTP answers: the shapes of the compatible API (V0) and problem documents."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit.errors.problems import PROBLEM_TYPE, STATUS_OF, Problem
from slipway_kit.errors.style import ErrorStyle, StyleOf
from slipway_kit.errors.types import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SlipwayError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from slipway_kit.errors.validation import invalid_from_validation
from slipway_kit.logging import get_logger

_LOG = get_logger()
_FROM_STATUS: dict[int, type[SlipwayError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    503: Unavailable,
}


def install_error_handlers(app: FastAPI, style: ErrorStyle | StyleOf) -> None:
    """Make `app` answer every error in the given style; nothing leaves as 422 or as a bare traceback."""
    renderer = _Renderer(style)
    app.add_exception_handler(SlipwayError, renderer.slipway_error)
    app.add_exception_handler(RequestValidationError, renderer.validation_error)
    app.add_exception_handler(HTTPException, renderer.http_exception)
    app.add_middleware(UnhandledErrors, renderer=renderer)


class _Renderer:
    def __init__(self, style: ErrorStyle | StyleOf) -> None:
        self._style = style

    def render(self, request: Request, error: SlipwayError, status: int | None = None) -> Response:
        style = self._style if isinstance(self._style, ErrorStyle) else self._style(request.url.path)
        request_id = request.scope.get("state", {}).get("request_id")
        number = status or STATUS_OF[error.kind]
        headers: dict[str, str] = {}
        if number == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Token" if style is ErrorStyle.V0 else "Bearer"
        if number == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "1"
        if style is ErrorStyle.V0:
            return JSONResponse(v0_body(error), number, headers)
        problem = Problem.of(error, request_id=request_id).model_dump(mode="json", exclude_none=True)
        if status is not None and status != problem["status"]:
            problem |= {"status": status, "title": _phrase(status)}
        return JSONResponse(problem, number, headers, media_type=PROBLEM_TYPE)

    async def slipway_error(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, SlipwayError):
            raise error
        if STATUS_OF[error.kind] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _LOG.warning("request_failed", code=error.code, error=error.message, path=request.url.path)
        return self.render(request, error)

    async def validation_error(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        problems = error.errors()
        if problems and all(one["loc"][0] == "path" for one in problems):
            return self.render(request, NotFound("Not found: the address names nothing that exists."))
        return self.render(request, invalid_from_validation(problems))

    async def http_exception(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        number = error.status_code
        if number == HTTPStatus.METHOD_NOT_ALLOWED:
            answer = self.render(
                request,
                SlipwayError(f"Method {request.method} is not allowed here.", code="method_not_allowed"),
                number,
            )
            answer.headers["Allow"] = _allowed(request)
            return answer
        if number == HTTPStatus.NOT_FOUND and error.detail == HTTPStatus.NOT_FOUND.phrase:
            answer = self.render(request, NotFound("Not found."))
        else:
            kind = _FROM_STATUS.get(number, SlipwayError)
            code = None if number in _FROM_STATUS else _code_of(number)
            answer = self.render(request, kind(str(error.detail), code=code), number)
        answer.headers.update(error.headers or {})
        return answer

    def unhandled(self, request: Request) -> Response:
        request_id = request.scope.get("state", {}).get("request_id")
        hint = f" Give the operator this request id: {request_id}." if request_id else ""
        return self.render(request, SlipwayError(f"Something went wrong on the server.{hint}"))


class UnhandledErrors:
    """Pure ASGI: answers 500 for what no handler took, logs the traceback, and lets the server go on."""

    def __init__(self, app: ASGIApp, renderer: _Renderer) -> None:
        self._app = app
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            _LOG.debug("client_went_away", path=scope["path"], method=scope["method"])
        except Exception as error:
            if started:
                _LOG.exception("request_broken_off", path=scope["path"], method=scope["method"])
                raise BrokenOffError from error
            _LOG.exception("request_crashed", path=scope["path"], method=scope["method"])
            await self._renderer.unhandled(Request(scope))(scope, receive, send)


class BrokenOffError(ConnectionError):
    """An answer failed after its first byte was sent; the connection is cut so that the client sees it."""


def v0_body(error: SlipwayError) -> dict[str, Any]:
    """Return the body of the compatible API: by field where fields are known, else message and code."""
    if isinstance(error, Invalid) and error.problems:
        return {
            name: [{"message": one.message, "code": one.code} for one in found]
            for name, found in error.problems.items()
        }
    if error.field is not None:
        return {error.field: [{"message": error.message, "code": error.code}]}
    return {"message": error.message, "code": error.code}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _code_of(status: int) -> str:
    return re.sub(r"[^a-z]+", "_", _phrase(status).lower())


def _allowed(request: Request) -> str:
    """All methods that this address takes; the framework names only those of the first route that fits."""
    found: set[str] = set()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope = dict(request.scope) | {"method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            found.add(method)
    return ", ".join(sorted(found))
