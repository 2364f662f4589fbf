"""Puts the pages into the gateway's public app."""

from fastapi import FastAPI

from slipway_gateway.web import (
    api_docs,
    assets,
    auth,
    commits,
    data,
    deployment_versions,
    deployments,
    environments,
    executions,
    home,
    operations,
    owners,
    projects,
    targets,
    tokens,
)
from slipway_gateway.web.errors import install_page_errors
from slipway_gateway.web.rendering import Renderer

ROUTERS = (
    assets.router,
    auth.router,
    tokens.router,
    home.router,
    projects.router,
    commits.router,
    commits.by_id_router,
    executions.router,
    data.router,
    deployments.router,
    deployment_versions.router,
    environments.router,
    operations.router,
    targets.router,
    owners.router,
    api_docs.router,
)
"""Pages for browsers. A new page adds its router here."""


def install_pages(app: FastAPI) -> None:
    """Serve the pages, and errors as pages where a browser asked for one."""
    app.state.renderer = Renderer()
    for router in ROUTERS:
        app.include_router(router)
    install_page_errors(app)
