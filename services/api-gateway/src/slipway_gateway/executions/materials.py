"""What a worker needs to run an attempt: code, inputs, secrets, and the container's way back to the platform."""

from collections.abc import Sequence
from uuid import UUID, uuid5

from sqlalchemy import text

from slipway_db import Database
from slipway_gateway.code.materials import code_archive
from slipway_gateway.data.domain import URL_LIFETIME, ConnectedStore, Datum
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.service import DatumService
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.data.store.stores import StoreStore
from slipway_gateway.executions.attempts import RunningAttempt, load_attempt
from slipway_gateway.executions.inputs import store_of
from slipway_gateway.executions.restart import RestartStore
from slipway_gateway.executions.tokens import SCHEME, ExecutionTokens
from slipway_gateway.secrets.service import SecretService
from slipway_kit.errors import Conflict
from slipway_kit.vault import Vault
from slipway_schemas.attempts import (
    Materials,
    MaterialsRequest,
    ResolvedFile,
    ResolvedInput,
    SecretValue,
)
from slipway_schemas.base import JsonObject
from slipway_schemas.executions import InputSpec, KeepDirectories
from slipway_schemas.tokens import AttemptClaims, ExecutionClaims
from slipway_storage import Audience, ObjectInfo, ObjectStore
from slipway_storage.uris import DatumUri, HttpUri, StoreUri, parse_uri
from slipway_storage.wildcards import KeepDirectories as Keep
from slipway_storage.wildcards import compile_pattern, destination

MAX_FILES = 100_000
"""Files that one input may have: more would not fit into one answer."""

_WORKER_URL = text("SELECT settings ->> 'worker_url' FROM scheduler_pub.environment_v1 WHERE id = :id")


class MaterialsService:
    """Materials of attempts. An attempt that another has superseded is refused."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        stores: Stores,
        datums: DatumService,
        tokens: ExecutionTokens,
        worker_origin: str,
    ) -> None:
        self._db = db
        self._vault = vault
        self._stores = stores
        self._datums = datums
        self._tokens = tokens
        self._worker_origin = worker_origin

    async def collect(self, claims: AttemptClaims, request: MaterialsRequest) -> Materials:
        """What was asked for. Raises `Conflict` with code `superseded`, `code_unavailable` or `input_failed`."""
        secrets: list[SecretValue] = []
        async with self._db.read() as session:
            attempt = await load_attempt(session, claims)
            worker_url = await session.scalar(_WORKER_URL, {"id": claims.environment_id})
            if "secrets" in request.want:
                reader = SecretService(session, self._vault)
                for name, variable in attempt.spec.environment_variables.items():
                    ref = variable.secret
                    if ref is not None:
                        value = await reader.value(ref.scope, ref.scope_id, ref.name, ref.version)
                        secrets.append(SecretValue(name=name, value=value))
        wanted = set(request.want)
        return Materials(
            code=await code_archive(self._db, self._stores, attempt.project_id, attempt.spec.code.identifier)
            if "code" in wanted
            else None,
            inputs=await self._inputs(attempt, "worker") if "inputs" in wanted else (),
            secrets=tuple(secrets),
            api=self._api(attempt, worker_url or self._worker_origin) if "api" in wanted else {},
        )

    async def on_demand(self, claims: ExecutionClaims, input_ids: Sequence[UUID]) -> list[JsonObject]:
        """Fresh URLs for inputs that user code downloads itself (contract 3.5)."""
        async with self._db.read() as session:
            attempt = await load_attempt(session, _attempt_claims(claims))
        wanted = [one for one in attempt.spec.inputs if input_id(attempt.execution_id, one.name) in input_ids]
        return [
            {
                "name": one.name,
                "files": [
                    {
                        "input_id": str(one.input_id),
                        "url": file.url,
                        "filename": file.name,
                        "original_uri": file.uri,
                        "download_intent": one.download,
                    }
                    for file in one.files
                ],
            }
            for one in await self._inputs(attempt, "worker", wanted)
        ]

    async def _inputs(
        self, attempt: RunningAttempt, audience: Audience, wanted: Sequence[InputSpec] | None = None
    ) -> tuple[ResolvedInput, ...]:
        specs = await self._declared(attempt) if wanted is None else wanted
        uris = {url: parse_uri(url) for one in specs for url in one.urls}
        ids = [UUID(uri.reference) for uri in uris.values() if isinstance(uri, DatumUri)]
        async with self._db.read() as session:
            datums = await DatumStore(session).by_ids(ids)
            stores = await StoreStore(session).of_project(attempt.project_id)
        resolved = []
        for one in specs:
            files: dict[str, ResolvedFile] = {}
            for url in one.urls:
                match uris[url]:
                    case DatumUri(reference=reference):
                        found = [await self._datum(one, datums.get(UUID(reference)), url, audience)]
                    case StoreUri() as uri:
                        found = await self._stored(one, uri, stores, audience)
                    case HttpUri() as uri:
                        name = one.filename if one.filename and len(one.urls) == 1 else uri.name
                        found = [ResolvedFile(name=name, uri=url, url=url, cache_key=url, public=True)]
                    case uri:
                        raise _failed(one, f"{uri} cannot be read")
                files.update((file.name, file) for file in found)
            resolved.append(
                ResolvedInput(
                    name=one.name,
                    input_id=input_id(attempt.execution_id, one.name),
                    download=one.download,
                    files=tuple(files.values()),
                )
            )
        return tuple(resolved)

    async def _declared(self, attempt: RunningAttempt) -> Sequence[InputSpec]:
        async with self._db.read() as session:
            return await RestartStore(session).with_restart(attempt.spec, attempt.execution_id, attempt.number)

    async def _datum(self, one: InputSpec, datum: Datum | None, url: str, audience: Audience) -> ResolvedFile:
        if datum is None or datum.purged_at is not None or datum.deleted_at is not None:
            raise _failed(one, f"{url} does not exist any more, or its bytes were purged")
        name = datum.filename if one.keep_directories is KeepDirectories.NONE else datum.name
        return ResolvedFile(
            name=one.filename if one.filename and len(one.urls) == 1 else name,
            uri=f"datum://{datum.id}",
            url=await self._datums.signed_url(datum, audience),
            datum_id=datum.id,
            storage_uri=datum.uri,
            size=datum.size,
            md5=datum.md5,
            sha1=datum.sha1,
            sha256=datum.sha256,
            metadata=(datum.properties,),
            cache_key=f"datum:{datum.id}",
        )

    async def _stored(
        self, one: InputSpec, uri: StoreUri, stores: Sequence[ConnectedStore], audience: Audience
    ) -> list[ResolvedFile]:
        connected = store_of(uri, stores)
        if connected is None:
            raise _failed(one, f"no connected store of the project holds {uri.scheme}://{uri.container} any more")
        store = await self._stores.open(connected.id)
        found = await _objects(one, uri, store)
        if not found:
            raise _failed(one, f"{uri} names no file")
        filename = one.filename if one.filename and len(one.urls) == 1 and not uri.is_pattern else None
        files = []
        for info in found:
            address = f"{uri.scheme}://{uri.container}/{info.key}"
            files.append(
                ResolvedFile(
                    name=destination(info.key, pattern=uri.key, keep=Keep(one.keep_directories), filename=filename),
                    uri=address,
                    url=await store.sign_get(info.key, expires=URL_LIFETIME, audience=audience),
                    storage_uri=address,
                    size=info.size,
                    cache_key=f"{address}@{info.etag}",
                )
            )
        return files

    def _api(self, attempt: RunningAttempt, origin: str) -> JsonObject:
        claims = ExecutionClaims(
            execution_id=attempt.execution_id, attempt_id=attempt.id, project_id=attempt.project_id
        )
        headers = {"Authorization": f"{SCHEME} {self._tokens.sign(claims)}"}
        origin = origin.rstrip("/")
        api: JsonObject = {
            "set_status_detail": {
                "url": f"{origin}/api/v0/executions/{attempt.execution_id}/set_status_detail/",
                "method": "POST",
                "headers": headers,
            }
        }
        if any(one.download == "on-demand" for one in attempt.spec.inputs):
            api["input_request"] = {
                "url": f"{origin}/request-input-data/?execution={attempt.execution_id}",
                "method": "POST",
                "headers": headers,
            }
        return api


def input_id(execution_id: UUID, name: str) -> UUID:
    """The id of an input of an execution: the same at every request."""
    return uuid5(execution_id, name)


def _attempt_claims(claims: ExecutionClaims) -> AttemptClaims:
    return AttemptClaims(
        attempt_id=claims.attempt_id, execution_id=claims.execution_id, environment_id=UUID(int=0), number=0
    )


async def _objects(one: InputSpec, uri: StoreUri, store: ObjectStore) -> list[ObjectInfo]:
    if not uri.is_pattern:
        info = await store.head(uri.key)
        return [] if info is None else [info]
    expression = compile_pattern(uri.key)
    found: list[ObjectInfo] = []
    async for info in store.list(uri.root):
        if expression.fullmatch(info.key):
            found.append(info)
            if len(found) > MAX_FILES:
                raise _failed(one, f"{uri} names more than {MAX_FILES} files; name fewer with a longer path")
    return sorted(found, key=lambda info: info.key)


def _failed(one: InputSpec, reason: str) -> Conflict:
    return Conflict(f"Input {one.name}: {reason}.", code="input_failed", details={"input": one.name})
