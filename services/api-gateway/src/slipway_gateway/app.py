"""The gateway's apps: which routers answer on which."""

import re
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from slipway_gateway import index_v0
from slipway_gateway.code import api_v0 as code_api
from slipway_gateway.context import GatewayContext
from slipway_gateway.data import aliases_api_v0 as aliases_api
from slipway_gateway.data import api_v0 as data_api
from slipway_gateway.data import stores_api_v0 as stores_api
from slipway_gateway.database import SCHEMA
from slipway_gateway.environments import api_v0 as environments_api
from slipway_gateway.executions import api_v0 as executions_api
from slipway_gateway.executions import container_api, workers_api
from slipway_gateway.failures import api_v1 as failures_api
from slipway_gateway.identity import api_v0 as identity_api
from slipway_gateway.inference import api_targets
from slipway_gateway.inference import api_v0 as inference_api
from slipway_gateway.inference import api_v1 as inference_api_v1
from slipway_gateway.inference import internal_api as inference_internal_api
from slipway_gateway.operations import api as operations_api
from slipway_gateway.projects import api_v0 as projects_api
from slipway_gateway.variables import api_v1 as variables_api
from slipway_gateway.web.pages import install_pages
from slipway_kit.app import create_app
from slipway_kit.auth import ServiceVerifier, require_service
from slipway_kit.errors import ErrorStyle
from slipway_storage import LocalStore, local_store_app
from slipway_storage.local.signing import MOUNT_PATH

V0_ROUTERS: tuple[APIRouter, ...] = (
    index_v0.router,
    identity_api.router,
    projects_api.router,
    code_api.router,
    environments_api.router,
    executions_api.router,
    container_api.router,
    data_api.router,
    aliases_api.router,
    stores_api.router,
    inference_api.router,
)
"""Everything below `/api/v0`. A feature adds its router here."""
_STREAMED = re.compile(rf"^{MOUNT_PATH}/|/import-package/?$|/data/upload/?$")
"""Paths whose bodies may be as large as files."""


V1_ROUTERS: tuple[APIRouter, ...] = (
    executions_api.router_v1,
    failures_api.router,
    inference_api_v1.router,
    api_targets.router,
    operations_api.router,
    variables_api.router,
)
"""Everything below `/api/v1`."""


def _style_of(path: str) -> ErrorStyle:
    return ErrorStyle.PROBLEM if path.startswith("/api/v1/") else ErrorStyle.V0


def public_app(context: GatewayContext | None) -> FastAPI:
    """The app of the public origin; without a context it can only describe itself."""
    app = create_app(
        "Slipway API",
        style=_style_of,
        version="0",
        metrics=context.metrics if context is not None else None,
        streamed=_STREAMED,
    )
    for router in V0_ROUTERS:
        app.include_router(router, prefix="/api/v0")
    for router in V1_ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.include_router(container_api.root_router)
    if context is not None:
        _attach(app, context)
        install_pages(app)
    return app


def workers_app(context: GatewayContext | None) -> FastAPI:
    """The app that workers call; features add their routers to it."""
    app = create_app(
        "Slipway gateway for workers",
        style=ErrorStyle.PROBLEM,
        metrics=context.metrics if context is not None else None,
        streamed=_STREAMED,
    )
    app.include_router(workers_api.router)
    if context is not None:
        _attach(app, context)
    return app


def internal_app(context: GatewayContext | None) -> FastAPI:
    """The app that other services call: inference-builder alone."""
    app = create_app(
        "Slipway gateway, internal",
        style=ErrorStyle.PROBLEM,
        metrics=context.metrics if context is not None else None,
    )
    verifier = context.callers if context is not None else ServiceVerifier(SCHEMA, {})
    app.include_router(inference_internal_api.router, dependencies=[Depends(require_service(verifier, "builder"))])
    if context is not None:
        app.state.context = context
    return app


def _attach(app: FastAPI, context: GatewayContext) -> None:
    app.state.context = context
    store: Any = context.object_store
    if isinstance(store, LocalStore):
        app.mount(MOUNT_PATH, local_store_app({store.config.id: store}))
