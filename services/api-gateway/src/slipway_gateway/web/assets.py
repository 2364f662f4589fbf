"""The pages' own style sheet, script and mark, read once and served with cache headers."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from fastapi import APIRouter, Request
from fastapi.responses import Response

from slipway_kit.errors import NotFound

router = APIRouter(include_in_schema=False)

_FOREVER = "public, max-age=31536000, immutable"
_SHORT = "public, max-age=300"
_TYPES = MappingProxyType(
    {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
)


@dataclass(frozen=True)
class Asset:
    """One file and the version that stands in its address."""

    content: bytes
    media_type: str
    version: str


class Assets:
    """All files of the package's `static` folder."""

    def __init__(self) -> None:
        folder = files("slipway_gateway.web") / "static"
        self._assets = {
            one.name: _asset(one.name, one.read_bytes())
            for one in folder.iterdir()
            if one.name.rpartition(".")[2] in _TYPES
        }

    def url(self, name: str) -> str:
        """The address of a file; it changes with the file's content, so browsers may keep it for ever."""
        return f"/static/{name}?v={self._assets[name].version}"

    def get(self, name: str) -> Asset:
        """One file. Raises `NotFound`."""
        try:
            return self._assets[name]
        except KeyError:
            raise NotFound("There is no such file.") from None


def _asset(name: str, content: bytes) -> Asset:
    return Asset(content, _TYPES[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest()[:12])


@router.get("/static/{name}")
async def static_file(name: str, request: Request, v: str = "") -> Response:
    """A file of the pages."""
    assets: Assets = request.app.state.renderer.assets
    asset = assets.get(name)
    headers = {
        "Cache-Control": _FOREVER if v == asset.version else _SHORT,
        "ETag": f'"{asset.version}"',
        "X-Content-Type-Options": "nosniff",
        # An SVG that is opened by itself is a document: it gets no rights either.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
