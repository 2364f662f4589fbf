"""Which users may see which executions and endpoints: answered from the published views of their owners."""

from datetime import datetime
from typing import Final
from uuid import UUID

from fastapi import Request
from fastapi.security import APIKeyHeader
from sqlalchemy import TextClause, text

from slipway_db.database import Database
from slipway_kit.auth import token_hash
from slipway_kit.clock import Clock
from slipway_kit.errors import NotFound, Unauthorized

SESSION_COOKIE: Final = "slipway_session"
USER_TOKEN: Final = APIKeyHeader(
    name="Authorization", scheme_name="token", description="`Token <token of a user>`", auto_error=False
)
"""Says in OpenAPI that a route wants a user's token; `UserAccess` checks it."""

_VISIBLE: Final = """
    SELECT token.expires_at, token.revoked_at, access.project_id IS NOT NULL AS visible
    FROM gateway_pub.token_v1 AS token
    LEFT JOIN {view} AS one ON one.id = :wanted AND one.deleted_at IS NULL
    LEFT JOIN gateway_pub.project_access_v1 AS access
        ON access.project_id = one.project_id AND access.user_id = token.user_id
    WHERE token.token_hash = :hash
"""
_OF_EXECUTION = text(_VISIBLE.format(view="scheduler_pub.execution_v1"))
_OF_ENDPOINT = text(_VISIBLE.format(view="builder_pub.endpoint_access_v1"))


class UserAccess:
    """Checks the user behind a request to the public app."""

    def __init__(self, db: Database, pepper: str, clock: Clock) -> None:
        self._db = db
        self._pepper = pepper
        self._clock = clock

    async def require_execution(self, request: Request, execution_id: UUID) -> None:
        """Raise `Unauthorized` without a valid token, and `NotFound` for what its user may not see."""
        if not await self._sees(request, _OF_EXECUTION, execution_id):
            raise NotFound("There is no such execution.")

    async def require_endpoint(self, request: Request, endpoint_id: UUID) -> None:
        """The same for an endpoint."""
        if not await self._sees(request, _OF_ENDPOINT, endpoint_id):
            raise NotFound("There is no such endpoint.")

    async def _sees(self, request: Request, question: TextClause, wanted: UUID) -> bool:
        token = _token_of(request)
        if token is None:
            raise Unauthorized("Log in, or send 'Authorization: Token <token>'.")
        async with self._db.read() as session:
            values = {"wanted": wanted, "hash": token_hash(token, self._pepper)}
            row = (await session.execute(question, values)).first()
        if row is None or row.revoked_at is not None or self._over(row.expires_at):
            raise Unauthorized("This token is unknown, expired or revoked.")
        return bool(row.visible)

    def _over(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= self._clock.now()


def _token_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "token" and token:
        return token.strip()
    return request.cookies.get(SESSION_COOKIE)
