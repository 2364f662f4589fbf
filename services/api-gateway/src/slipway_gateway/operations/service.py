"""Collects how the platform is. A neighbour that does not answer in time is a line, not an error."""

import asyncio
import shutil
from contextlib import suppress
from importlib.metadata import version

from pydantic import BaseModel

from slipway_gateway.context import GatewayContext
from slipway_gateway.operations.domain import problems_of
from slipway_gateway.operations.store import OperationsStore
from slipway_kit.errors import NotFound, SlipwayError
from slipway_kit.health import OK, ReadyCheck
from slipway_kit.http import Neighbour
from slipway_schemas.health import PlatformHealth, ServiceHealth, ServiceState
from slipway_storage.local.store import LocalStore

_NEIGHBOUR_SECONDS = 4.0


class _Ready(BaseModel):
    """The answer of `/readyz`."""

    checks: dict[str, str]


async def platform_health(context: GatewayContext) -> PlatformHealth:
    """Ask everybody at once, look at the queues and workers, and say what is wrong."""
    own = context.health.report([ReadyCheck("database", context.database_answers)])
    mine, others = await asyncio.gather(own, asyncio.gather(*(_ask(one) for one in context.neighbours)))
    services = (_state(mine.service, mine), *others)
    async with context.db.read() as session:
        store = OperationsStore(session)
        environments, workers = await store.environments(), await store.workers()
        uploads, oldest_upload = await store.uploads()
    figures = {name: value for one in services if one.health is not None for name, value in one.health.figures.items()}
    undurable = figures.get("undurable_attempts")
    disk = None
    if isinstance(context.object_store, LocalStore):
        with suppress(FileNotFoundError):  # its folder is made by the first object
            disk = await asyncio.to_thread(shutil.disk_usage, context.object_store.config.path)
    found = PlatformHealth(
        at=context.clock.now(),
        version=version("slipway-api-gateway"),
        services=services,
        environments=tuple(environments),
        workers=tuple(workers),
        uploads_waiting=uploads,
        oldest_upload_at=oldest_upload,
        logs_not_durable=None if undurable is None else int(undurable),
        disk_free_bytes=None if disk is None else disk.free,
        disk_total_bytes=None if disk is None else disk.total,
    )
    return found.model_copy(update={"problems": problems_of(found)})


async def _ask(neighbour: Neighbour) -> ServiceState:
    name = neighbour.audience
    try:
        return _state(
            name, await neighbour.get("/internal/v1/health", result=ServiceHealth, timeout=_NEIGHBOUR_SECONDS)
        )
    except NotFound:
        pass
    except SlipwayError as error:
        return ServiceState(name=name, ready=False, reason=error.message)
    try:
        # A service without loops and a database has nothing more to tell than that it is ready.
        await neighbour.get("/readyz", result=_Ready, timeout=_NEIGHBOUR_SECONDS)
    except SlipwayError as error:
        return ServiceState(name=name, ready=False, reason=error.message)
    return ServiceState(name=name, ready=True)


def _state(name: str, health: ServiceHealth) -> ServiceState:
    reasons = [f"{part}: {reason}" for part, reason in health.checks.items() if reason != OK]
    return ServiceState(name=name, ready=not reasons, reason="; ".join(reasons), health=health)
