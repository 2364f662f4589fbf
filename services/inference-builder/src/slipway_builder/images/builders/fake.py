"""`fake`: checks a request as the others do and names an image, without any registry. For tests of what is around."""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

from slipway_builder.images.contents import metadata_bytes, safe_file_path, unpack_code
from slipway_builder.images.found import describe_built
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import METADATA_FILE, BuildLog, BuiltImage, ImageRequest
from slipway_builder.images.registry.errors import ImageDenied, ImageMissing
from slipway_builder.images.registry.manifests import canonical_json, digest_of
from slipway_builder.images.registry.references import parse_reference
from slipway_kit.errors import Unavailable
from slipway_kit.tasks import run_blocking

MISSING: Final = "missing"
DENIED: Final = "denied"
"""Base images whose repository has this last name are missing, or denied."""


class FakeBuilder:
    """Remembers what would be in each image."""

    name = "fake"

    def __init__(self, options: BuilderOptions) -> None:
        self._options = options
        self.images: dict[str, dict[str, bytes]] = {}
        """Content below the work directory, by the image's digest."""

    async def aclose(self) -> None:
        """Nothing is held."""

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Name the image by its content."""
        reference = parse_reference(request.base)
        last = reference.repository.rpartition("/")[2]
        if last == MISSING:
            raise ImageMissing(f"There is no image {reference}: check its name and its tag.")
        if last == DENIED:
            raise ImageDenied(f"The registry {reference.host} does not show {reference} to everybody.")
        log(f"Base image {reference}")
        folder = Path(await run_blocking(tempfile.mkdtemp, prefix="slipway-fake-", dir=self._options.work_dir))
        try:
            content = await self._content(request, folder)
        finally:
            await run_blocking(shutil.rmtree, folder, ignore_errors=True)
        named = {path: hashlib.sha256(data).hexdigest() for path, data in content.items()}
        raw = canonical_json({"base": str(reference), "content": named, "spec": request.spec.model_dump(mode="json")})
        digest = digest_of(raw)
        self.images[digest] = content
        size = sum(len(data) for data in content.values())
        built = describe_built(request, digest=digest, base_digest=digest_of(str(reference).encode()), size=size)
        log(f"Pushed {built.reference}")
        return built

    async def _content(self, request: ImageRequest, folder: Path) -> dict[str, bytes]:
        await run_blocking(unpack_code, request.code, folder)
        content = {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
        for file in request.files:
            path = safe_file_path(folder, file.path).relative_to(folder.resolve())
            data = b"".join([chunk async for chunk in file.open()])
            if len(data) != file.size:
                raise Unavailable(f"The file {path} should have {file.size} bytes; the store gave {len(data)}.")
            content[str(path)] = data
        content[METADATA_FILE] = metadata_bytes(request.metadata)
        await asyncio.sleep(0)
        return content
