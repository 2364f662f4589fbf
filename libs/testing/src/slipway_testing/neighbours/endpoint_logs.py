"""A log service that answers what a test says of endpoints."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_kit.auth import ServiceVerifier, bearer_token


class EndpointLogsNeighbour:
    """The log service's internal API of endpoints, for the gateway."""

    def __init__(self, verifier: ServiceVerifier) -> None:
        self._verifier = verifier
        self.log: dict[str, Any] = {"lines": [], "next": ""}
        self.records: list[dict[str, Any]] = []

    def app(self) -> Starlette:
        """The ASGI app."""
        root = "/internal/v1/endpoints/{id}"
        return Starlette(routes=[Route(f"{root}/log", self._log), Route(f"{root}/metadata", self._metadata)])

    async def _log(self, request: Request) -> Response:
        self._verifier.verify(bearer_token(request))
        return JSONResponse(self.log)

    async def _metadata(self, request: Request) -> Response:
        self._verifier.verify(bearer_token(request))
        return JSONResponse(self.records)
