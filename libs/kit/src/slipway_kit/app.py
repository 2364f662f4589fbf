"""Makes the FastAPI apps of all services alike."""

from typing import Any

from fastapi import FastAPI

from slipway_kit.errors import ErrorStyle, StyleOf, install_error_handlers
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.middleware import CollapseSlashes, RequestLog, serve_both_slashes


class _App(FastAPI):
    """An app whose description says 400 where the framework would say 422, as the error handlers answer."""

    def openapi(self) -> dict[str, Any]:
        described = super().openapi()
        for methods in described["paths"].values():
            for operation in methods.values():
                if operation["responses"].pop("422", None) is not None:
                    operation["responses"].setdefault("400", {"description": "The body says what is wrong, by field."})
        for name in ("HTTPValidationError", "ValidationError"):
            described.get("components", {}).get("schemas", {}).pop(name, None)
        return described


def create_app(
    title: str,
    *,
    style: ErrorStyle | StyleOf,
    version: str = "1",
    metrics: ServiceMetrics | None = None,
) -> FastAPI:
    """Make an app with error handlers, request ids, access log, latency metrics and forgiving paths.

    Routes are served with and without their trailing slash and with repeated slashes, never by redirect.
    """
    # The interactive pages of the framework load scripts from elsewhere; the gateway draws its own.
    app = _App(title=title, version=version, redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app, style)
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(CollapseSlashes)
    serve_both_slashes(app.router)
    return app
