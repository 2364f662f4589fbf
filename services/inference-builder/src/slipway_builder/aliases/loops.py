"""Aliases that move by themselves: to a version that waited to be ready, and back from one that is worse."""

from slipway_builder.aliases.service import NOT_READY, AliasService, Mover
from slipway_builder.aliases.store import AliasStore, Bound
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.versions.store import VersionStore
from slipway_db import Database
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_schemas.inference.versions import AliasMove

_log = get_logger()

LEAST_REQUESTS = 20
"""Fewer answers of a new version say nothing about it."""
_AT_ONCE = 50


class WantedAliasLoop:
    """Gives versions the aliases that they were created with, as soon as they serve."""

    name = "wanted_aliases"
    due = None
    channel = None
    interval = 0.5

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(self) -> int:
        """Move what can be moved now."""
        async with self._db.read() as session:
            waiting = await VersionStore(session).waiting_aliases(_AT_ONCE)
        for one in waiting:
            try:
                async with self._db.transaction() as session:
                    await DeploymentStore(session).lock(one.deployment_id)
                    # Another builder may have done it since it was read, and a person may have moved it again.
                    if await VersionStore(session).alias_done(one.version_id, one.name):
                        move = AliasMove(version_id=one.version_id, reason="Wanted when the version was created")
                        await AliasService(session).move(one.deployment_id, one.name, move, Mover(automatic=True))
            except SlipwayError as error:
                if error.code == NOT_READY:
                    continue
                _log.warning("wanted_alias_refused", alias=one.name, error=str(error))
                async with self._db.transaction() as session:
                    await VersionStore(session).alias_done(one.version_id, one.name)
        return 0


class BoundsLoop:
    """Moves aliases back whose new version answers with more errors, or later, than its mover allowed."""

    name = "alias_bounds"
    due = None
    channel = None
    interval = 2.0

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(self) -> int:
        """Go back where a bound is crossed."""
        async with self._db.read() as session:
            crossed = await AliasStore(session).crossed_bounds(LEAST_REQUESTS)
        for one in crossed:
            try:
                async with self._db.transaction() as session:
                    await DeploymentStore(session).lock(one.deployment_id)
                    # Another builder may have done it since it was read: going back twice is going forth.
                    still = await AliasStore(session).crossed_bounds(LEAST_REQUESTS)
                    if one.place not in {bound.place for bound in still}:
                        continue
                    await AliasService(session).rollback(
                        one.deployment_id, one.name, Mover(automatic=True), reason=_reason(one)
                    )
                _log.warning("alias_went_back", alias=one.name, deployment_id=str(one.deployment_id))
            except SlipwayError as error:
                _log.warning("alias_cannot_go_back", alias=one.name, error=str(error))
        return 0


def _reason(one: Bound) -> str:
    if one.max_error_percent is not None and one.error_percent > one.max_error_percent:
        what = f"{one.error_percent:.1f} % of {one.requests} answers were errors, above {one.max_error_percent:g} %"
    else:
        what = f"{one.requests} answers took {one.latency_ms:.0f} ms on average, above {one.max_latency_ms:g} ms"
    return f"Went back by itself: {what}"
