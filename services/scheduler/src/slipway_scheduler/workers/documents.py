"""Attempt documents and tokens: what an assignment hands to a worker."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping

from slipway_kit.auth import AttemptSigner
from slipway_schemas.attempts import AttemptDocument
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.executions import ExecutionSpec
from slipway_schemas.tokens import AttemptClaims
from slipway_schemas.workers import Assignment


def assignments(rows: Sequence[RowMapping], signer: AttemptSigner) -> dict[UUID, list[Assignment]]:
    """Make the assignments of these attempts, by worker. Signing again gives the same token."""
    found: dict[UUID, list[Assignment]] = {}
    for row in rows:
        document = attempt_document(row)
        claims = AttemptClaims(
            attempt_id=document.attempt_id,
            execution_id=document.execution_id,
            environment_id=document.environment_id,
            number=document.number,
        )
        assignment = Assignment(attempt_id=document.attempt_id, token=signer.sign(claims), document=document)
        found.setdefault(row["worker_id"], []).append(assignment)
    return found


def attempt_document(row: RowMapping) -> AttemptDocument:
    """Make the document of an attempt; limits that the step leaves open are the environment's."""
    settings = EnvironmentSettings.model_validate(row["settings"])
    spec = ExecutionSpec.model_validate(row["spec"])
    limits = {
        "time_limit_seconds": spec.time_limit_seconds or settings.default_time_limit_seconds,
        "no_output_timeout_seconds": spec.no_output_timeout_seconds or settings.default_no_output_timeout_seconds,
    }
    values = {key: value for key, value in row.items() if key not in {"settings", "spec", "worker_id"}}
    return AttemptDocument(**values, environment=settings, spec=spec.model_copy(update=limits))
