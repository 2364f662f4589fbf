"""Makes the FastAPI apps of all services alike."""

import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.routing import Route
from starlette.types import ASGIApp

from slipway_kit.auth import BEARER
from slipway_kit.errors import ErrorStyle, StyleOf, install_error_handlers
from slipway_kit.errors.described import REF_TEMPLATE, add_schemas, describe_errors
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.middleware import BodyLimit, CollapseSlashes, RequestLog, serve_both_slashes


@dataclass(frozen=True)
class HotRoute:
    """What OpenAPI says of a `POST` with a bearer token that a raw ASGI endpoint serves."""

    path: str
    summary: str
    body: type[BaseModel]
    answer: type[BaseModel]
    tag: str


class ServiceApp(FastAPI):
    """An app whose description names the errors that its handlers answer, and its raw ASGI endpoints."""

    def __init__(self, style: ErrorStyle | StyleOf, **more: Any) -> None:
        super().__init__(**more)
        self._style = style
        self._hot: list[HotRoute] = []

    def add_hot_route(self, route: HotRoute, endpoint: ASGIApp | None) -> None:
        """Serve a raw ASGI endpoint; without one it is only described."""
        self._hot.append(route)
        if endpoint is not None:
            self.router.routes.append(Route(route.path, endpoint, methods=["POST"]))

    def openapi(self) -> dict[str, Any]:
        """The description of the app, made once."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        described = super().openapi()
        for route in self._hot:
            add_schemas(described, route.body, route.answer)
            described["paths"].setdefault(route.path, {})["post"] = _operation(route)
            described["components"].setdefault("securitySchemes", {})[BEARER.scheme_name] = BEARER.model.model_dump(
                mode="json", by_alias=True, exclude_none=True
            )
        describe_errors(described, self._style)
        for name in ("HTTPValidationError", "ValidationError"):
            described.get("components", {}).get("schemas", {}).pop(name, None)
        return described


def create_app(
    title: str,
    *,
    style: ErrorStyle | StyleOf,
    version: str = "1",
    metrics: ServiceMetrics | None = None,
    streamed: re.Pattern[str] | None = None,
) -> ServiceApp:
    """Make an app with error handlers, request ids, access log, latency metrics and forgiving paths.

    Routes are served with and without their trailing slash and with repeated slashes, never by redirect. Bodies have a
    limit, but on the paths that `streamed` finds.
    """
    # The interactive pages of the framework load scripts from elsewhere; the gateway draws its own.
    app = ServiceApp(style, title=title, version=version, redirect_slashes=False, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, streamed=streamed)
    install_error_handlers(app, style)
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(CollapseSlashes)
    serve_both_slashes(app.router)
    return app


def _operation(route: HotRoute) -> dict[str, Any]:
    def content(model: type[BaseModel]) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": REF_TEMPLATE.format(model=model.__name__)}}}

    return {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": route.path.strip("/").replace("/", "_"),
        "requestBody": {"content": content(route.body), "required": True},
        "responses": {"200": {"description": "Successful Response", "content": content(route.answer)}},
        "security": [{BEARER.scheme_name: []}],
    }
