"""Which users may see which executions: answered from the gateway's and the scheduler's published views."""

from datetime import datetime
from typing import Final
from uuid import UUID

from fastapi import Request
from fastapi.security import APIKeyHeader
from sqlalchemy import text

from slipway_db.database import Database
from slipway_kit.auth import token_hash
from slipway_kit.clock import Clock
from slipway_kit.errors import NotFound, Unauthorized

SESSION_COOKIE: Final = "slipway_session"
USER_TOKEN: Final = APIKeyHeader(
    name="Authorization", scheme_name="token", description="`Token <token of a user>`", auto_error=False
)
"""Says in OpenAPI that a route wants a user's token; `UserAccess` checks it."""

_ALLOWED = text(
    """
    SELECT token.expires_at, token.revoked_at, access.project_id IS NOT NULL AS visible
    FROM gateway_pub.token_v1 AS token
    LEFT JOIN scheduler_pub.execution_v1 AS execution ON execution.id = :execution AND execution.deleted_at IS NULL
    LEFT JOIN gateway_pub.project_access_v1 AS access
        ON access.project_id = execution.project_id AND access.user_id = token.user_id
    WHERE token.token_hash = :hash
    """
)


class UserAccess:
    """Checks the user behind a request to the public app."""

    def __init__(self, db: Database, pepper: str, clock: Clock) -> None:
        self._db = db
        self._pepper = pepper
        self._clock = clock

    async def require_execution(self, request: Request, execution_id: UUID) -> None:
        """Raise `Unauthorized` without a valid token, and `NotFound` for what its user may not see."""
        token = _token_of(request)
        if token is None:
            raise Unauthorized("Log in, or send 'Authorization: Token <token>'.")
        async with self._db.read() as session:
            row = (
                await session.execute(_ALLOWED, {"execution": execution_id, "hash": token_hash(token, self._pepper)})
            ).first()
        if row is None or row.revoked_at is not None or self._over(row.expires_at):
            raise Unauthorized("This token is unknown, expired or revoked.")
        if not row.visible:
            raise NotFound("There is no such execution.")

    def _over(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= self._clock.now()


def _token_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "token" and token:
        return token.strip()
    return request.cookies.get(SESSION_COOKIE)
