"""`/api/v0/`: what there is, and which server this is."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from pydantic import BaseModel

router = APIRouter(tags=["server"])


class ServerV0(BaseModel):
    """Which server answers."""

    flavor: str
    version: str


@router.get("/")
async def index(request: Request) -> dict[str, str]:
    """The lists of this API by name."""
    origin = request.app.state.context.public_origin
    names = ("commits", "environments", "executions", "projects", "repositories", "data", "stores", "server")
    return {name: f"{origin}/api/v0/{name}/" for name in names}


@router.get("/server/")
async def server() -> ServerV0:
    """Name and version of this server."""
    return ServerV0(flavor="slipway", version=version("slipway-api-gateway"))
