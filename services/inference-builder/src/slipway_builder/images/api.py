"""Internal HTTP of images: the log of a build."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from slipway_builder.images.store import ImageStore
from slipway_db import Read
from slipway_kit.errors import NotFound
from slipway_schemas.inference.versions import BuildLogPage

router = APIRouter(prefix="/internal/v1/images", tags=["images"])


@router.get("/{image_id}/log")
async def log(
    image_id: UUID,
    session: Read,
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> BuildLogPage:
    """Lines of the build from position `after` on; those of the last try."""
    store = ImageStore(session)
    state = await store.status(image_id)
    if state is None:
        raise NotFound(f"There is no image {image_id}.")
    lines = await store.lines(image_id, after, limit)
    following = lines[-1][0] + 1 if lines else after
    return BuildLogPage(lines=tuple(line for _, line in lines), next=following, status=state[0], detail=state[1])
