"""The URIs that an input may name (forms: `valohai.yaml`, "Input URIs")."""

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from slipway_kit.errors import Invalid
from slipway_storage.keys import check_key
from slipway_storage.wildcards import has_wildcard, wildcard_root

StoreScheme = Literal["s3", "gs", "azure", "swift"]

_CONTAINER_SEGMENTS: dict[StoreScheme, int] = {"s3": 1, "gs": 1, "azure": 2, "swift": 2}
_FORMS: dict[StoreScheme, str] = {
    "s3": "s3://bucket/key",
    "gs": "gs://bucket/key",
    "azure": "azure://account/container/blob",
    "swift": "swift://project/container/key",
}


@dataclass(frozen=True, slots=True)
class StoreUri:
    """An object, or with wildcards many, in a connected store. `container` is `bucket` or
    `account/container`."""

    scheme: StoreScheme
    container: str
    key: str

    @property
    def is_pattern(self) -> bool:
        """Whether the key has wildcards."""
        return has_wildcard(self.key)

    @property
    def root(self) -> str:
        """The directory to list for a pattern."""
        return wildcard_root(self.key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.container}/{self.key}"


@dataclass(frozen=True, slots=True)
class HttpUri:
    """Something on the web, taken as it is; basic auth inside the URL is allowed, so treat `url` as a
    secret."""

    url: str

    @property
    def name(self) -> str:
        """The last segment of the path, or the host where there is none."""
        parts = urlsplit(self.url)
        return unquote(parts.path.rpartition("/")[2]) or (parts.hostname or "download")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class DatumUri:
    """One datum, by UUID or alias."""

    reference: str

    def __str__(self) -> str:
        return f"datum://{self.reference}"


@dataclass(frozen=True, slots=True)
class VersionUri:
    """All files of a version of a dataset or a model, by version name or alias."""

    scheme: Literal["dataset", "model"]
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}/{self.version}"


Uri = StoreUri | HttpUri | DatumUri | VersionUri


def parse_uri(text: str) -> Uri:
    """The URI in its typed form; `str()` of it gives the text back. Raises `Invalid` that shows the right
    form."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise Invalid(
            f"{text!r:.200} is no URI. Use s3://, gs://, azure://, swift://, datum://, dataset://, "
            f"model:// or "
            "http(s)://.",
            field="uri",
        )
    match scheme:
        case "s3" | "gs" | "azure" | "swift":
            return _store_uri(scheme, rest)
        case "http" | "https":
            return _http_uri(text)
        case "datum":
            if not rest or "/" in rest:
                raise Invalid(f"{text!r:.200} has the form datum://<uuid or alias>.", field="uri")
            return DatumUri(rest)
        case "dataset" | "model":
            name, slash, version = rest.partition("/")
            if not name or not slash or not version or "/" in version:
                raise Invalid(f"{text!r:.200} has the form {scheme}://<name>/<version or alias>.", field="uri")
            return VersionUri(scheme, name, version)
        case _:
            raise Invalid(
                f"Inputs cannot be read from {scheme}://. Use {', '.join(get_args(StoreScheme))}, datum, "
                f"dataset, "
                "model, http or https.",
                field="uri",
            )


def _store_uri(scheme: StoreScheme, rest: str) -> StoreUri:
    count = _CONTAINER_SEGMENTS[scheme]
    segments = rest.split("/", count)
    if len(segments) != count + 1 or not all(segments):
        raise Invalid(f"{scheme}://{rest!s:.200} has the form {_FORMS[scheme]}.", field="uri")
    container = "/".join(segments[:count])
    if "*" in container:
        raise Invalid(f"Wildcards go into the key only: {_FORMS[scheme]}.", field="uri")
    return StoreUri(scheme, container, check_key(segments[count]))


def _http_uri(text: str) -> HttpUri:
    try:
        host = urlsplit(text).hostname
    except ValueError:
        host = None
    if not host:
        raise Invalid("An http(s) URL names a host.", field="uri")
    return HttpUri(text)
