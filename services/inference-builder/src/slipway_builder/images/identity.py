"""What makes two images the same: everything that goes into one, and nothing else."""

import hashlib
from pathlib import Path
from typing import Final

from slipway_builder.images.contents import WSGI_SERVER, server_argv
from slipway_builder.images.protocol import ImageRequest
from slipway_builder.images.registry.manifests import canonical_json
from slipway_builder.images.wsgi import wsgi_version
from slipway_kit.tasks import run_blocking

FORMAT: Final = 1
"""Grows when the same request would give another image; images that were built before are then built again."""
_TAG_CHARACTERS: Final = 40
_READ_BYTES: Final = 1024 * 1024


async def image_tag(request: ImageRequest, base_digest: str) -> str | None:
    """The tag under which the image of this request lies once it is built; None when that cannot be known."""
    if any(file.sha256 is None for file in request.files):
        return None
    brought = {WSGI_SERVER: await run_blocking(wsgi_version)} if request.spec.wsgi is not None else {}
    content = {
        "format": FORMAT,
        "base": base_digest,
        "platform": request.platform,
        "code": await run_blocking(_sha256, request.code),
        "files": sorted([file.path, file.size, file.sha256] for file in request.files),
        "metadata": request.metadata,
        "command": server_argv(request.spec),
        "port": request.spec.port,
        "brought": brought,
    }
    return f"v-{hashlib.sha256(canonical_json(content)).hexdigest()[:_TAG_CHARACTERS]}"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
