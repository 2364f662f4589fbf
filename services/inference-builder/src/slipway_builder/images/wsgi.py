"""The WSGI server that the platform brings, taken from this installation: nothing is downloaded for it."""

import shutil
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Final

from slipway_builder.images.contents import WSGI_SERVER
from slipway_builder.images.protocol import HOME_DIRECTORY
from slipway_kit.errors import Unavailable

WSGI_DIRECTORY: Final = f"{HOME_DIRECTORY}/.slipway"
"""On PYTHONPATH of images with a `wsgi` endpoint, behind what the base image has there."""


def wsgi_version() -> str:
    """The version that is brought. Raises `Unavailable` when it is not installed here."""
    return _distribution().version


def write_wsgi_server(target: Path) -> None:
    """Put the server's package into `target`, which then belongs on PYTHONPATH. Blocking."""
    distribution = _distribution()
    for file in sorted(distribution.files or []):
        if file.parts[0] != WSGI_SERVER or file.suffix not in {".py", ".txt", ""} or "tests" in file.parts:
            continue
        placed = target.joinpath(*file.parts)
        placed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(distribution.locate_file(file)), placed)
        placed.chmod(0o644)


def _distribution() -> Distribution:
    try:
        return Distribution.from_name(WSGI_SERVER)
    except PackageNotFoundError as error:
        raise Unavailable(
            f"The package {WSGI_SERVER} is not installed beside the builder; install it again."
        ) from error
