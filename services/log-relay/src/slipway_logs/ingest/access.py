"""Whose chunks are taken: the attempt token is checked offline, its standing against the scheduler's view."""

import time
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from slipway_db.database import Database
from slipway_kit.auth import AttemptVerifier
from slipway_kit.errors import Conflict, Unauthorized
from slipway_schemas.tokens import AttemptClaims

STANDING_SECONDS = 5.0
"""How long what the scheduler said of an attempt is taken as true; what slips through lies under the old attempt."""
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What the scheduler says of an attempt."""

    superseded: bool
    ended: bool
    total_lines: int | None = None
    total_metadata: int | None = None
    """Totals that the attempt reported when it ended."""


class Superseded(Conflict):
    """Another attempt has taken over: nothing that this one sends is taken."""

    code = "superseded"


class AttemptAccess:
    """Checks attempt tokens; remembers an attempt's standing for 5 s (design section 5, rule 7)."""

    def __init__(self, db: Database, verifier: AttemptVerifier) -> None:
        self._db = db
        self._verifier = verifier
        self._standing: dict[UUID, tuple[float, Standing]] = {}

    def claims(self, authorization: str | None) -> AttemptClaims:
        """Claims of a `Bearer` header; raises `Unauthorized`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("Send the attempt's token as 'Authorization: Bearer <token>'.")
        return self._verifier.verify(token)

    async def standing(self, claims: AttemptClaims) -> Standing:
        """The attempt's standing; raises `Superseded` when it is no longer the current one."""
        now = time.monotonic()
        known = self._standing.get(claims.attempt_id)
        if known is None or now - known[0] > STANDING_SECONDS:
            standing = await self._ask(claims.attempt_id)
            if len(self._standing) > _REMEMBERED:
                self._standing = {
                    key: value for key, value in self._standing.items() if now - value[0] < STANDING_SECONDS
                }
            self._standing[claims.attempt_id] = (now, standing)
        else:
            standing = known[1]
        if standing.superseded:
            raise Superseded(f"Attempt {claims.number} of this execution was superseded; its log is closed.")
        return standing

    async def _ask(self, attempt_id: UUID) -> Standing:
        async with self._db.read() as session:
            row = (
                await session.execute(
                    text(
                        "SELECT superseded, ended_at IS NOT NULL AS ended, total_lines, total_metadata"
                        " FROM scheduler_pub.attempt_v1 WHERE id = :id"
                    ),
                    {"id": attempt_id},
                )
            ).first()
        if row is None:
            raise Unauthorized("The scheduler does not know this attempt.")
        return Standing(*row)
