"""Events of the gateway that change deployments."""

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.service import DeploymentService
from slipway_events import Handler
from slipway_schemas.events import EventEnvelope, ProjectDeleted


async def project_deleted(session: AsyncSession, envelope: EventEnvelope) -> None:
    """Delete the deployments of the project."""
    event = ProjectDeleted.model_validate(envelope.payload)
    await DeploymentService(session).delete_project(event.project_id)


def handlers() -> dict[str, Handler]:
    """Return the handlers by event name."""
    return {ProjectDeleted.name: project_deleted}
