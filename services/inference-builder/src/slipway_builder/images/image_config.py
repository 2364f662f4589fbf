"""The configuration of an endpoint's image, made from its base's."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from slipway_builder.images.contents import server_argv
from slipway_builder.images.layers import Layer
from slipway_builder.images.protocol import ENDPOINT_UID, HOME_DIRECTORY, WORK_DIRECTORY, CannotBuild
from slipway_builder.images.registry.manifests import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    canonical_json,
    digest_of,
)
from slipway_builder.images.wsgi import WSGI_DIRECTORY
from slipway_schemas.inference.versions import EndpointSpec

USER: Final = f"{ENDPOINT_UID}:{ENDPOINT_UID}"
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EPOCH: Final = "1970-01-01T00:00:00Z"


def endpoint_environment(base: Sequence[str], spec: EndpointSpec) -> dict[str, str]:
    """Variables of the image: the base's, with HOME, PATH and for `wsgi` PYTHONPATH."""
    variables = dict(one.partition("=")[::2] for one in base)
    variables["HOME"] = HOME_DIRECTORY
    variables["PATH"] = f"{HOME_DIRECTORY}/.local/bin:{variables.get('PATH') or _DEFAULT_PATH}"
    if spec.wsgi is not None:
        variables["PYTHONPATH"] = ":".join(filter(None, (variables.get("PYTHONPATH"), WSGI_DIRECTORY)))
    return variables


def extend_config(base: dict[str, Any], layers: Sequence[Layer], spec: EndpointSpec) -> bytes:
    """The configuration of the base with the layers on top; no part of it depends on when it is made.

    Raises `CannotBuild` when the base wants commands run in every build on top of it (`ONBUILD`).
    """
    document = deepcopy(base)
    config = document.get("config") or {}
    if config.get("OnBuild"):
        raise CannotBuild("The base image has ONBUILD instructions, which run commands.")
    for name in ("Entrypoint", "Healthcheck", "OnBuild", "ArgsEscaped", "Image", "Hostname", "Domainname"):
        config.pop(name, None)
    config["Cmd"] = list(server_argv(spec))
    config["WorkingDir"] = WORK_DIRECTORY
    config["User"] = USER
    config["ExposedPorts"] = {f"{spec.port}/tcp": {}}
    config["Env"] = [f"{name}={value}" for name, value in endpoint_environment(config.get("Env") or [], spec).items()]
    created = document.get("created") or _EPOCH
    document["config"] = config
    document["created"] = created
    document["rootfs"] = {
        "type": "layers",
        "diff_ids": [*document["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)],
    }
    document["history"] = [
        *(document.get("history") or []),
        *({"created": created, "created_by": f"slipway: {layer.about}"} for layer in layers),
    ]
    for name in ("container", "container_config", "id", "parent", "docker_version"):
        document.pop(name, None)
    return canonical_json(document)


def make_manifest(config: bytes, layers: Sequence[Descriptor], *, base_name: str, base_digest: str) -> bytes:
    """The manifest of an image."""
    described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described.document(),
        "layers": [layer.document() for layer in layers],
        "annotations": {
            "org.opencontainers.image.base.name": base_name,
            "org.opencontainers.image.base.digest": base_digest,
        },
    }
    return canonical_json(document)
