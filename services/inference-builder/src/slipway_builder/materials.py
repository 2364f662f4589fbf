"""What the gateway gives to builds and to endpoints: code, files and the values of variables."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from slipway_kit.http import Neighbour
from slipway_schemas.executions import CodeRef, EnvironmentVariable
from slipway_schemas.inference.versions import InferenceMaterials, InferenceMaterialsRequest

_PATH = "/internal/v1/inference/materials"


class MaterialsClient:
    """Asks the gateway."""

    def __init__(self, gateway: Neighbour) -> None:
        self._gateway = gateway

    async def for_build(self, project_id: UUID, code: CodeRef | None, datum_ids: Sequence[UUID]) -> InferenceMaterials:
        """URLs of code and files, for 15 minutes. Raises `Conflict` with code `code_unavailable`."""
        request = InferenceMaterialsRequest(project_id=project_id, code=code, datum_ids=tuple(datum_ids))
        return await self._gateway.post(_PATH, body=request, result=InferenceMaterials, timeout=30)

    async def environment(self, project_id: UUID, variables: Mapping[str, Any]) -> dict[str, str]:
        """The values of variables, secrets included."""
        parsed = {name: EnvironmentVariable.model_validate(one) for name, one in variables.items()}
        if all(one.secret is None for one in parsed.values()):
            return {name: one.value or "" for name, one in parsed.items()}
        request = InferenceMaterialsRequest(project_id=project_id, environment_variables=parsed)
        return (await self._gateway.post(_PATH, body=request, result=InferenceMaterials, timeout=30)).environment
