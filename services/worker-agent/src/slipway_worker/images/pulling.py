"""Has an attempt's image on this machine."""

import asyncio
from collections.abc import Callable
from typing import Final

from slipway_runtime.errors import RegistryUnreachable
from slipway_runtime.runtimes.protocol import ContainerRuntime, RegistryAuth
from slipway_schemas.attempts import RegistryLogin

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 2.0


async def ensure_image(
    runtime: ContainerRuntime,
    image: str,
    login: RegistryLogin | None,
    *,
    always: bool,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> None:
    """Pull the image unless it is there; `always` asks the registry even then (`VH_NO_IMAGE_CACHE`).

    A registry that does not answer is tried again. Raises the runtime's image errors.
    """
    if runtime.name == "process":
        return  # it has no images, and says so itself
    if not always and await runtime.image_present(image):
        say(f"Image {image} is already on this machine")
        return
    say(f"Pulling image {image}")
    progress(f"image {image}")

    def tell(line: str) -> None:
        say(line)
        progress(f"image {image}: {line}")

    auth = RegistryAuth(login.registry, login.username, login.password) if login is not None else None
    for left in reversed(range(_TRIES)):
        try:
            await runtime.pull(image, auth, tell)
        except RegistryUnreachable as error:
            if not left:
                raise
            say(f"{error}; trying again")
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            say(f"Pulled image {image}")
            return
