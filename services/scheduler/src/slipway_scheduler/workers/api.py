"""HTTP of workers: registration (workers' app) and draining (internal app). Sync is in `hot.py`."""

from uuid import UUID

from fastapi import APIRouter, Request, Security

from slipway_db import Transaction
from slipway_kit.auth import BEARER, bearer_token
from slipway_scheduler.context import Services
from slipway_schemas.workers import WorkerRegister, WorkerRegistered

workers_router = APIRouter(prefix="/workers/v1", tags=["workers"], dependencies=[Security(BEARER)])
internal_router = APIRouter(prefix="/internal/v1/workers", tags=["workers"])


@workers_router.post("/register")
async def register(
    request: Request, machine: WorkerRegister, session: Transaction, services: Services
) -> WorkerRegistered:
    """Join the environment of the group token; the same machine again is the same worker."""
    return await services.workers(session).register(bearer_token(request), machine)


@internal_router.post("/{worker_id}/drain", status_code=204)
async def drain(worker_id: UUID, session: Transaction, services: Services) -> None:
    """Ask a worker to finish what it has and take no more."""
    await services.workers(session).drain(worker_id)
