"""Claims of the signed tokens that services check offline."""

from uuid import UUID

from slipway_schemas.base import WireModel


class AttemptClaims(WireModel):
    """What an attempt token proves: this worker runs this try of this execution (the fencing token)."""

    attempt_id: UUID
    execution_id: UUID
    environment_id: UUID
    number: int


class ExecutionClaims(WireModel):
    """What the token inside a container proves: one execution of one project (contract 3.7)."""

    execution_id: UUID
    attempt_id: UUID
    project_id: UUID


class ServiceClaims(WireModel):
    """What a service token proves: which service speaks, to whom, and for what."""

    service: str
    audience: str
    scope: str
