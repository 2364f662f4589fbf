"""Turns the URIs of inputs into ones that stay what they are: aliases frozen, stores found, the rest refused."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import ConnectedStore
from slipway_gateway.data.store.aliases import AliasStore
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.data.store.stores import StoreStore
from slipway_gateway.executions.domain.inputs import WantedInput
from slipway_gateway.executions.domain.problems import Problems
from slipway_kit.errors import Invalid
from slipway_schemas.executions import InputSpec
from slipway_storage.uris import DatumUri, HttpUri, StoreUri, Uri, VersionUri, parse_uri

_FIELD = "inputs"


async def freeze_inputs(
    session: AsyncSession, project_id: UUID, user_id: int, wanted: Sequence[WantedInput], problems: Problems
) -> tuple[InputSpec, ...]:
    """Resolve what must not change later. Every URI that cannot be resolved is a problem that names its input."""
    parsed = {(one.name, url): _parsed(one, url, problems) for one in wanted for url in one.urls}
    names = {uri.reference.lower() for uri in parsed.values() if isinstance(uri, DatumUri) and _uuid(uri) is None}
    aliases = await AliasStore(session).resolve(project_id, sorted(names)) if names else {}
    ids = {_uuid(uri) or aliases.get(uri.reference.lower()) for uri in parsed.values() if isinstance(uri, DatumUri)}
    datums = await DatumStore(session).usable(project_id, user_id, [one for one in ids if one is not None])
    has_store_uris = any(isinstance(uri, StoreUri) for uri in parsed.values())
    stores = await StoreStore(session).of_project(project_id) if has_store_uris else []
    frozen = []
    for one in wanted:
        urls = []
        for url in one.urls:
            uri = parsed[one.name, url]
            if isinstance(uri, DatumUri):
                datum_id = _uuid(uri) or aliases.get(uri.reference.lower())
                if datum_id is None:
                    problems.add(_FIELD, f"{one.name}: the project has no alias {uri.reference!r:.140}.", "not_found")
                elif datum_id not in datums:
                    problems.add(_FIELD, f"{one.name}: {url} does not exist, was purged, or is not yours.", "not_found")
                else:
                    url = f"datum://{datum_id}"
            elif uri is not None:
                _check(one, uri, stores, problems)
            urls.append(url)
        frozen.append(
            InputSpec(
                name=one.name,
                urls=tuple(urls),
                original_urls=one.original_urls,
                keep_directories=one.keep_directories,
                filename=one.filename,
                download=one.download,
            )
        )
    return tuple(frozen)


def store_of(uri: StoreUri, stores: Sequence[ConnectedStore]) -> ConnectedStore | None:
    """The connected store that holds this bucket and may be read."""
    if uri.scheme != "s3":
        return None
    return next((one for one in stores if one.allow_read and one.configuration["bucket"] == uri.container), None)


def _check(one: WantedInput, uri: Uri, stores: Sequence[ConnectedStore], problems: Problems) -> None:
    match uri:
        case HttpUri():
            pass
        case VersionUri(scheme=scheme):
            problems.add(
                _FIELD,
                f"{one.name}: {uri} cannot be read yet, because {scheme}://… arrives with datasets and models. "
                "Name the files by datum://, a store or https://.",
                "unsupported",
            )
        case StoreUri() if store_of(uri, stores) is None:
            problems.add(
                _FIELD,
                f"{one.name}: no connected store of this project holds {uri.scheme}://{uri.container}. "
                "Connect one with POST /api/v0/stores/.",
                "store_not_found",
            )
        case StoreUri() if uri.is_pattern and one.filename:
            problems.add(_FIELD, f"{one.name}: filename renames a single file; {uri} is a wildcard.")
        case _:
            pass


def _parsed(one: WantedInput, url: str, problems: Problems) -> Uri | None:
    try:
        return parse_uri(url)
    except Invalid as error:
        problems.add(_FIELD, f"{one.name}: {error.message}")
        return None


def _uuid(uri: DatumUri) -> UUID | None:
    try:
        return UUID(uri.reference)
    except ValueError:
        return None
