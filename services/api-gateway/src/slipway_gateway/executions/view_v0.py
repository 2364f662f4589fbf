"""Executions in the compatible API (contract 1.2): plain dictionaries, because lists have thousands of them."""

from collections.abc import Sequence
from typing import Any

from slipway_gateway.data.domain import Datum
from slipway_gateway.data.view_v0 import datum_v0
from slipway_gateway.executions.domain.record import Execution, ExecutionDetail
from slipway_gateway.v0.fields import format_timestamp
from slipway_gateway.v0.urls import api_path, page_url
from slipway_schemas.executions import EnvironmentVariable, ExecutionSpec


def execution_v0(execution: Execution, origin: str) -> dict[str, Any]:
    """An execution as lists show it. `origin` is where browsers reach the platform."""
    url = api_path("executions", execution.id)
    hours = (execution.duration_seconds or 0) / 3600
    return {
        "id": str(execution.id),
        "counter": execution.counter,
        "status": execution.status.value,
        "status_detail": execution.status_detail or "",
        "step": execution.step,
        "title": execution.title or "",
        "project": {
            "id": str(execution.project_id),
            "name": execution.project_name,
            "owner": {"id": execution.owner_id, "username": execution.owner_slug},
            "url": api_path("projects", execution.project_id),
        },
        "environment": {
            "id": str(execution.environment_id),
            "slug": execution.environment_slug,
            "name": execution.environment_name or execution.environment_slug,
        },
        "commit": {
            "identifier": execution.commit_identifier,
            "adhoc": execution.commit_identifier.startswith("~"),
            "ref": execution.commit_ref or "",
        },
        "url": url,
        "urls": {
            "display": page_url(origin, "p", execution.owner_slug, execution.project_slug, "execution", execution.id),
            "stop": f"{url}stop/",
            "copy": f"{url}copy/",
            "copy_to_task": None,
        },
        "duration": execution.duration_seconds,
        "parameters": execution.parameters,
        "tags": list(execution.tags),
        "image": execution.image,
        "priority": execution.priority,
        "ctime": format_timestamp(execution.created_at),
        "mtime": format_timestamp(execution.updated_at),
        "start_time": None if execution.started_at is None else format_timestamp(execution.started_at),
        "end_time": None if execution.finished_at is None else format_timestamp(execution.finished_at),
        "end_reason": execution.end_reason,
        "end_message": execution.end_message,
        "exit_code": execution.exit_code,
        "phase": execution.phase,
        "attempt_count": execution.attempt_count,
        "creator_id": execution.creator_id,
        "creator_name": execution.creator_name,
        "creator": {"id": execution.creator_id, "username": execution.creator_name},
        "deleted": execution.deleted_at is not None,
        "price": f"{execution.price_per_hour * hours:.4f}",
        "task": None,
        "task_counter": None,
        "pipeline": None,
        "pipeline_counter": None,
        "is_pinned": False,
        "emissions": None,
    }


def execution_detail_v0(detail: ExecutionDetail, outputs: Sequence[Datum], origin: str) -> dict[str, Any]:
    """An execution with all that defines it and what came of it. Values of secrets are null."""
    spec = detail.spec
    return {
        **execution_v0(detail.execution, origin),
        "inputs": [
            {
                "name": one.name,
                "urls": list(one.urls),
                "original_urls": list(one.original_urls),
                "keep_directories": one.keep_directories.value,
                "filename": one.filename,
                "download": one.download,
            }
            for one in detail.inputs
        ],
        "parameters": dict(spec.parameters),
        "parameter_categories": dict(spec.parameter_categories),
        "outputs": [datum_v0(datum).model_dump(mode="json") for datum in outputs],
        "n_outputs": len(outputs),
        "n_alerts": 0,
        "n_comments": 0,
        "cumulative_metadata": detail.cumulative_metadata,
        "command": "\n".join(spec.command),
        "interpolated_command": spec.interpolated_command,
        "environment_variables": {name: _variable(one) for name, one in spec.environment_variables.items()},
        "runtime_config": _runtime_config(spec),
        "stop_expression": spec.stop_condition,
        "time_limit": spec.time_limit_seconds,
        "no_output_timeout": spec.no_output_timeout_seconds,
        "autorestart": spec.autorestart,
        "step_icon": spec.step_icon,
        "category": spec.category,
        "executor_identity": None,
        "upload_store_id": None if spec.upload_store_id is None else str(spec.upload_store_id),
        "mounts": [mount.model_dump() for mount in spec.mounts],
        "end_evidence": detail.end_evidence,
        "queued_time": None if detail.queued_at is None else format_timestamp(detail.queued_at),
    }


def _variable(variable: EnvironmentVariable) -> dict[str, Any]:
    return {"value": variable.value, "secret": variable.secret is not None}


def _runtime_config(spec: ExecutionSpec) -> dict[str, Any]:
    config: dict[str, Any] = dict(spec.runtime_config)
    config["autorestart"] = spec.autorestart
    if spec.no_output_timeout_seconds is not None:
        config["no_output_timeout"] = spec.no_output_timeout_seconds
    if spec.debug_port is not None:
        config["remote_debug"] = {"debug_port": spec.debug_port, "debug_key": spec.debug_key}
    return config
