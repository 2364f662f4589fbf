"""What can go wrong with a registry, in words that name the image and what to do."""

import json

from slipway_builder.images.protocol import BuildError
from slipway_kit.errors import Unavailable

_MESSAGE_CHARACTERS = 300


class ImageMissing(BuildError):
    """The registry does not have it."""

    code = "image_missing"


class ImageDenied(BuildError):
    """The registry does not let us."""

    code = "image_denied"


class RegistryRefused(BuildError):
    """The registry refused what was sent."""

    code = "registry_refused"


class RegistryUnreachable(Unavailable):
    """The registry does not answer now."""

    code = "registry_unreachable"


class BlobUnknown(Unavailable):
    """A layer is not in the registry (any more); it can be sent again."""

    code = "blob_unknown"


def answer_error(status: int, body: bytes, what: str, *, host: str, login: str | None) -> Exception:
    """The error of an answer; `what` names the image or the repository."""
    codes, said = _reasons(body)
    if status in (401, 403):
        return ImageDenied(f"{_denied(what, host, login)}{said}")
    if status in (400, 404) and codes & {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}:
        return BlobUnknown(f"The registry {host} does not have a part of {what} any more.{said}")
    if status == 404:
        return ImageMissing(f"There is no image {what}: check its name and its tag.{said}")
    if status == 429:
        return RegistryUnreachable(f"The registry {host} asks to come back later (429) for {what}.{said}")
    if status >= 500:
        return RegistryUnreachable(f"The registry {host} failed with {status} for {what}.{said}")
    return RegistryRefused(f"The registry {host} refused {what} with {status}.{said}")


def _denied(what: str, host: str, login: str | None) -> str:
    if login is None:
        return f"The registry {host} does not show {what} to everybody: check the name, or give Slipway a login for it."
    return f"The registry {host} refused {what} to the login {login}: check the name, the password and its rights."


def _reasons(body: bytes) -> tuple[set[str], str]:
    try:
        errors = json.loads(body)["errors"]
        codes = {str(one["code"]) for one in errors}
        texts = [str(one.get("message") or one["code"]) for one in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        return set(), ""
    return codes, f" It said: {'; '.join(texts)[:_MESSAGE_CHARACTERS]}."
