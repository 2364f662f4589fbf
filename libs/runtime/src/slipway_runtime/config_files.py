"""The files in `/valohai/config`, each as JSON and as YAML (contract 3.4 to 3.7)."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slipway_runtime.paths import ContainerPaths
from slipway_schemas.attempts import AttemptDocument, ResolvedFile, ResolvedInput
from slipway_schemas.base import JsonObject


def write_config_files(
    directory: Path,
    document: AttemptDocument,
    inputs: Sequence[ResolvedInput],
    paths: ContainerPaths,
    api: JsonObject | None = None,
) -> None:
    """Write all configuration files of an attempt. `api` is the content of `api.json`, as JSON only."""
    spec = document.spec
    parameters = {name: value for name, value in spec.parameters.items() if value is not None}
    _write(directory, "parameters", parameters)
    _write(directory, "inputs", inputs_config(document, inputs, paths))
    _write(directory, "execution", execution_config(document))
    _write(directory, "runtime", runtime_config(document))
    if api:
        _write_text(directory / "api.json", json.dumps(api, indent=2))


def inputs_config(document: AttemptDocument, inputs: Sequence[ResolvedInput], paths: ContainerPaths) -> dict[str, Any]:
    """`inputs.json`. Inputs that are declared but empty are listed without an id."""
    config: dict[str, Any] = {declared.name: {"files": []} for declared in document.spec.inputs}
    for resolved in inputs:
        if resolved.files:
            files = [_file(resolved, file, paths) for file in resolved.files]
            config[resolved.name] = {"input_id": str(resolved.input_id), "files": files}
        else:
            config[resolved.name] = {"files": []}
    return config


def execution_config(document: AttemptDocument) -> dict[str, Any]:
    """`execution.json`: flat keys, as they were when the execution was created."""
    spec = document.spec
    values = {
        "commit-identifier": spec.code.identifier,
        "creator-email": document.creator_email,
        "creator-id": document.creator_id,
        "creator-name": document.creator_name,
        "environment-id": str(document.environment_id),
        "environment-name": document.environment_name,
        "environment-slug": document.environment_slug,
        "execution-counter": document.counter,
        "execution-ctime": _time(document.created_at),
        "execution-duration": None,
        "execution-id": str(document.execution_id),
        "execution-image": spec.image,
        "execution-qtime": None,
        "execution-status": "created",
        "execution-step": spec.step,
        "execution-tags": list(document.tags),
        "execution-title": document.title,
        "project-id": str(document.project_id),
        "project-name": document.project_name,
    }
    return {f"valohai.{name}": value for name, value in values.items()}


def runtime_config(document: AttemptDocument) -> dict[str, Any]:
    """`runtime.json`."""
    spec = document.spec
    return {
        "time_limit": spec.time_limit_seconds,
        "no_output_timeout": spec.no_output_timeout_seconds,
        "autorestart": spec.autorestart,
        "image": spec.image,
        "resources": spec.resources.model_dump(mode="json"),
    }


def _file(resolved: ResolvedInput, file: ResolvedFile, paths: ContainerPaths) -> dict[str, Any]:
    sums = {"md5": file.md5, "sha1": file.sha1, "sha256": file.sha256}
    return {
        "name": file.name,
        "path": str(paths.inputs / resolved.name / file.name),
        "size": file.size,
        "uri": f"datum://{file.datum_id}" if file.datum_id and not file.public else file.uri,
        "checksums": {name: value for name, value in sums.items() if value is not None},
        "metadata": list(file.metadata),
        "datum_id": str(file.datum_id) if file.datum_id else None,
        "input_id": str(resolved.input_id),
        "storage_uri": file.storage_uri,
        "download_intent": resolved.download,
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _write(directory: Path, name: str, content: Mapping[str, Any]) -> None:
    _write_text(directory / f"{name}.json", json.dumps(content, indent=2))
    _write_text(directory / f"{name}.yaml", yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
