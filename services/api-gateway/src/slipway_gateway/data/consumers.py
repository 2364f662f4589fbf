"""Events that data follows."""

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import ABORT_GRACE
from slipway_gateway.data.store.uploads import UploadStore
from slipway_schemas.events import EventEnvelope, ExecutionStateChanged


async def abort_uploads_of_ended(session: AsyncSession, envelope: EventEnvelope) -> None:
    """An execution has ended: what it did not finish uploading is aborted after a grace."""
    event = ExecutionStateChanged.model_validate(envelope.payload)
    if event.after.final:
        await UploadStore(session).abort_later(event.execution_id, envelope.occurred_at + ABORT_GRACE)
