"""Makes the FastAPI apps of all services alike."""

from fastapi import FastAPI

from slipway_kit.errors import ErrorStyle, StyleOf, install_error_handlers
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.middleware import CollapseSlashes, RequestLog, serve_both_slashes


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
    app = FastAPI(title=title, version=version, redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app, style)
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(CollapseSlashes)
    serve_both_slashes(app.router)
    return app
