"""`valohai-metadata.json`: what a server can know of itself (contract 4.4)."""

from slipway_builder.images.store import BuildSource
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.statuses import EndpointStatus
from slipway_schemas.inference.versions import EndpointSpec


def metadata_document(source: BuildSource, spec: EndpointSpec) -> JsonObject:
    """A snapshot as of the build, without secrets; the same version always has the same document."""
    details = source.details
    ctime = source.version_created_at.isoformat()
    return {
        "meta": {"ctime": ctime},
        "project": details.get("project", {"id": str(source.project_id)}),
        "deployment": {
            **details.get("deployment", {}),
            "id": str(source.deployment_id),
            "name": source.deployment,
            "ctime": source.deployment_created_at.isoformat(),
            "project": str(source.project_id),
        },
        "version": {
            **details.get("version", {}),
            "name": source.version_name,
            "ctime": ctime,
            "commit": details.get("commit", {"identifier": source.code.identifier, "adhoc": source.code.adhoc}),
            "creator": {"id": source.creator_id, "username": source.creator_name},
            "environment_variables": dict(source.own_variables),
            "endpoints": [_endpoint(source, spec)],
        },
        "endpoint": _endpoint(source, spec),
    }


def _endpoint(source: BuildSource, spec: EndpointSpec) -> JsonObject:
    datums = source.details.get("datums", {})
    return {
        "id": str(source.endpoint_id),
        "name": spec.name,
        "status": EndpointStatus.BUILDING_IMAGE,
        "enabled": True,
        "files": [
            {
                "name": file.name,
                "path": file.path,
                "datum": {
                    **datums.get(str(file.datum_id), {}),
                    "id": str(file.datum_id),
                    "name": file.datum_name,
                    "size": file.size,
                },
            }
            for file in spec.files
        ],
    }
