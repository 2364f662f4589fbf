"""Shapes of inference in the compatible API (contract 4.3)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from slipway_gateway.code.domain import Commit
from slipway_gateway.data.domain import Datum
from slipway_gateway.data.view_v0 import datum_v0
from slipway_gateway.inference.domain.records import (
    Alias,
    CommitFacts,
    Deployment,
    Endpoint,
    Version,
    VersionLine,
)
from slipway_gateway.projects.domain import Project
from slipway_gateway.v0.fields import format_timestamp
from slipway_gateway.v0.urls import api_path, page_url
from slipway_schemas.inference.versions import EndpointFile

Json = dict[str, Any]

_MIB = 1024**2
_DEFAULT_CPU = 0.1
_LOG_HANDLER = "slipway"
VERSION_WORD = "VERSION"
"""Stands in `endpoint_url` where the version's or alias's name belongs (contract 4.1)."""


def deployment_v0(
    deployment: Deployment, aliases: Sequence[Alias], versions: Sequence[VersionLine], public_url: str
) -> Json:
    """A deployment; of its versions the newest, in few words."""
    place = (deployment.owner_slug, deployment.project_slug, "deployment", deployment.id)
    return {
        "id": str(deployment.id),
        "name": deployment.name,
        "enabled": deployment.enabled,
        "public": deployment.public,
        "ctime": format_timestamp(deployment.created_at),
        "mtime": format_timestamp(deployment.modified_at),
        "owner": deployment.owner_id,
        "project": str(deployment.project_id),
        "target": str(deployment.target_id),
        "target_name": deployment.target_name,
        "target_log_handler_type": _LOG_HANDLER,
        "url": api_path("deployments", deployment.id),
        "urls": {"display": page_url(public_url, "p", *place)},
        "version_aliases": [
            {
                "id": str(one.id),
                "name": one.name,
                "version": str(one.version_id),
                "version_name": one.version_name,
                "canary_version": None if one.canary_version_id is None else str(one.canary_version_id),
                "canary_percent": one.canary_percent,
                "mtime": format_timestamp(one.modified_at),
            }
            for one in aliases
        ],
        "versions": [
            {
                "id": str(one.id),
                "name": one.name,
                "enabled": one.enabled,
                "ctime": format_timestamp(one.created_at),
                "url": api_path("deployment-versions", one.id),
            }
            for one in versions
        ],
    }


def version_v0(version: Version, datums: Mapping[UUID, Datum], public_url: str) -> Json:
    """A version with its endpoints."""
    deployment = version.deployment
    place = (deployment.owner_slug, deployment.project_slug, "deployment", deployment.id, "version", version.id)
    return {
        "id": str(version.id),
        "name": version.name,
        "url": api_path("deployment-versions", version.id),
        "urls": {"display": page_url(public_url, "p", *place)},
        "deployment": str(deployment.id),
        "project": str(deployment.project_id),
        "commit": _commit(version.commit, deployment.project_id, public_url),
        "creator": {"id": version.creator_id, "username": version.creator_name},
        "ctime": format_timestamp(version.created_at),
        "mtime": format_timestamp(version.modified_at),
        "enabled": version.enabled,
        "effective_enabled": version.effective_enabled,
        "status": version.status.value,
        "status_text": version.status_text,
        "endpoints": [endpoint_v0(one, version, datums) for one in version.endpoints],
        "endpoint_urls": {one.name: deployment.url_of(version.name, one.name) for one in version.endpoints},
        "environment_variables": version.own_variables,
    }


def endpoint_v0(endpoint: Endpoint, version: Version, datums: Mapping[UUID, Datum]) -> Json:
    """An endpoint; memory is in MB, as in the YAML."""
    spec = endpoint.spec
    memory = spec.resources.memory_bytes
    return {
        "id": str(endpoint.id),
        "name": endpoint.name,
        "url": api_path("deployment-endpoints", endpoint.id),
        "version": str(endpoint.version_id),
        "enabled": endpoint.enabled,
        "status": endpoint.status.value,
        "status_detail": endpoint.status_detail,
        "problem": endpoint.problem,
        "restarts": endpoint.restarts,
        "last_lines": list(endpoint.last_lines),
        "is_ready_to_deploy": all(_usable(datums.get(one.datum_id)) for one in spec.files),
        "endpoint_url": version.deployment.url_of(VERSION_WORD, endpoint.name),
        "files": [
            {"id": str(uuid5(endpoint.id, one.name)), "name": one.name, "path": one.path, "datum": _datum(one, datums)}
            for one in spec.files
        ],
        "image": spec.image,
        "port": spec.port,
        "replicas": endpoint.scale.replicas,
        "replicas_max": endpoint.scale.replicas_max,
        "replicas_ready": endpoint.replicas_ready,
        "replicas_wanted": endpoint.replicas_wanted,
        "cpu_request": _DEFAULT_CPU if spec.resources.cpu.min is None else spec.resources.cpu.min,
        "cpu_limit": spec.resources.cpu.max,
        "memory_request": 0 if memory.min is None else int(memory.min) // _MIB,
        "memory_limit": 0 if memory.max is None else int(memory.max) // _MIB,
        "node_selector": ",".join(f"{key}={value}" for key, value in spec.node_selector.items()),
        "ctime": format_timestamp(endpoint.created_at),
        "mtime": format_timestamp(endpoint.modified_at),
    }


def build_metadata(project: Project, commit: Commit, datums: Sequence[Datum], public_url: str) -> Json:
    """What the gateway knows of `valohai-metadata.json`: project, commit, and the files by their ids."""
    display = page_url(public_url, "p", project.owner_slug, project.slug)
    facts = CommitFacts(
        commit.identifier, commit.ref, commit.adhoc, commit.commit_time, commit.description, commit.has_config
    )
    return {
        "project": {
            "id": str(project.id),
            "name": project.name,
            "description": project.description,
            "owner": {"id": project.owner_id, "username": project.owner_slug},
            "ctime": format_timestamp(project.created_at),
            "mtime": format_timestamp(project.updated_at),
            "url": api_path("projects", project.id),
            "urls": {"display": display, "display_repository": f"{display}repository/"},
        },
        "commit": _commit(facts, project.id, public_url),
        "datums": {str(one.id): datum_v0(one).model_dump(mode="json") for one in datums},
    }


def _commit(commit: CommitFacts, project_id: UUID, public_url: str) -> Json:
    return {
        "identifier": commit.identifier,
        "ref": commit.ref,
        "adhoc": commit.adhoc,
        "commit_time": format_timestamp(commit.commit_time),
        "description": commit.description,
        "has_config": commit.has_config,
        "url": api_path("commits", commit.identifier),
        "urls": {"display": page_url(public_url, "projects", project_id, "commits", commit.identifier)},
    }


def _datum(file: EndpointFile, datums: Mapping[UUID, Datum]) -> Json:
    datum = datums.get(file.datum_id)
    if datum is None:
        return {"id": str(file.datum_id), "name": file.datum_name, "size": file.size, "purged": True}
    return datum_v0(datum).model_dump(mode="json")


def _usable(datum: Datum | None) -> bool:
    return datum is not None and datum.purged_at is None and datum.deleted_at is None
