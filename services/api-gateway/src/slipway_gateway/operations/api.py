"""`GET /api/v1/admin/health/`: how the platform is, for administrators."""

from fastapi import APIRouter

from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.operations.service import platform_health
from slipway_kit.errors import NotFound
from slipway_schemas.health import PlatformHealth

router = APIRouter(prefix="/admin", tags=["operations"])


@router.get("/health/", responses={404: {}})
async def health(user: CurrentUser, context: Context) -> PlatformHealth:
    """Services, loops, queues, workers, and what is wrong or behind, the worst first. For administrators."""
    if not user.is_admin:
        raise NotFound("There is nothing here.")
    return await platform_health(context)
