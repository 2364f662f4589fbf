"""What inference-builder calls at the gateway."""

from fastapi import APIRouter

from slipway_gateway.identity.dependencies import Context
from slipway_schemas.inference.versions import InferenceMaterials, InferenceMaterialsRequest

router = APIRouter(prefix="/internal/v1/inference", tags=["inference"])


@router.post("/materials", responses={409: {}, 404: {}})
async def materials(context: Context, body: InferenceMaterialsRequest) -> InferenceMaterials:
    """Code, files and values of variables; URLs live 15 minutes. 409 `code_unavailable`: ask again in a moment."""
    return await context.inference.materials.collect(body)
