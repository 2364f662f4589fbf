"""Pure ASGI middleware: request ids, access log, latency by route, and forgiving paths."""

import re
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit.ids import new_id
from slipway_kit.logging import get_logger
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.unit_of_work import transaction_open

REQUEST_ID_HEADER = "X-Request-Id"
MAX_BODY_BYTES = 32 * 1024 * 1024
_LOG = get_logger()
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SLASHES = re.compile(r"/{2,}")
_RAW_SLASHES = re.compile(rb"/{2,}")
_TRIED = "slipway.other_slash_tried"


class CollapseSlashes:
    """Serves `/a//b/` as `/a/b/`: clients join a URL that ends in `/` with a path that starts with one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and "//" in scope["path"]:
            scope = dict(scope) | {"path": _SLASHES.sub("/", scope["path"])}
            if scope.get("raw_path"):
                scope["raw_path"] = _RAW_SLASHES.sub(b"/", scope["raw_path"])
        await self._app(scope, receive, send)


def serve_both_slashes(router: Router) -> None:
    """Let `router` serve a route with and without its trailing slash, directly, whichever was declared.

    It costs a second look-up only when the first found nothing. A catch-all route found first wins.
    """
    not_found = router.default

    async def try_other_slash(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] != "http" or path == "/" or scope.get(_TRIED):
            await not_found(scope, receive, send)
            return
        scope[_TRIED] = True
        scope["path"] = path.removesuffix("/") if path.endswith("/") else path + "/"
        await router.app(scope, receive, send)

    router.default = try_other_slash


class BodyLimit:
    """Refuses bodies above `MAX_BODY_BYTES`, but on paths whose routes stream theirs and have limits of their own.

    The framework reads the bodies of most routes whole, so without a limit one request could take all memory.
    """

    def __init__(self, app: ASGIApp, streamed: re.Pattern[str] | None = None) -> None:
        self._app = app
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self._streamed is not None and self._streamed.search(scope["path"])):
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        announced = int(length) if length.isascii() and length.isdecimal() else 0
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            if announced > MAX_BODY_BYTES:
                raise _too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise _too_large()
            return message

        await self._app(scope, counting_receive, send)


def _too_large() -> HTTPException:
    # The framework hides other errors that are raised while it reads a body.
    return HTTPException(413, f"The request body is larger than the limit of {MAX_BODY_BYTES} bytes.")


class RequestLog:
    """Gives each request an id (the caller's, if it is usable), logs it, and measures it by route."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A server that resumes reading inside a request runs the next one of the connection in a copy of its context.
        transaction_open.set(False)
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _USABLE_ID.fullmatch(given) else new_id().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        started_at = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        method, path = scope["method"], scope["path"]
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - started_at
                route = route_of(scope)
                if self._metrics is not None:
                    self._metrics.http_requests.labels(method, route, str(status)).observe(seconds)
                _LOG.info(
                    "request_served",
                    method=method,
                    path=path,
                    route=route,
                    status=status,
                    seconds=round(seconds, 4),
                )


def route_of(scope: Scope) -> str:
    """Return the declared path of the route that served the request, or `unmatched`."""
    context: Any = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path_format", None) or getattr(scope.get("route"), "path_format", None)
    return path if isinstance(path, str) else "unmatched"
