"""What inference-builder needs to build and run a version: code, files, and the values of variables."""

from slipway_db import Database
from slipway_gateway.code.materials import code_archive
from slipway_gateway.code.store import CodeStore
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.service import DatumService
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.executions.drafts import Snapshots
from slipway_gateway.secrets.service import SecretService
from slipway_kit.errors import Conflict
from slipway_kit.vault import Vault
from slipway_schemas.attempts import CodeArchive
from slipway_schemas.inference.versions import FileMaterial, InferenceMaterials, InferenceMaterialsRequest


class InferenceMaterialsService:
    """Materials of versions. The caller is the builder, which got the ids from a draft of the gateway."""

    def __init__(self, db: Database, vault: Vault, stores: Stores, datums: DatumService, snapshots: Snapshots) -> None:
        self._db = db
        self._vault = vault
        self._stores = stores
        self._datums = datums
        self._snapshots = snapshots

    async def collect(self, request: InferenceMaterialsRequest) -> InferenceMaterials:
        """What was asked for.

        Raises `Conflict`: `code_unavailable` while the archive is being made, `code_refused` when it could not be made
        and is tried again, `file_unavailable`; `NotFound` for a secret that is gone.
        """
        environment: dict[str, str] = {}
        async with self._db.read() as session:
            secrets = SecretService(session, self._vault)
            for name, one in request.environment_variables.items():
                if one.secret is not None:
                    ref = one.secret
                    environment[name] = await secrets.value(ref.scope, ref.scope_id, ref.name, ref.version)
                elif one.value is not None:
                    environment[name] = one.value
        code = await self._code(request)
        return InferenceMaterials(
            code_url=None if code is None else code.url,
            code_sha256=None if code is None else code.sha256,
            code_size=None if code is None else code.size,
            code_format="tar.zst" if code is None else code.format,
            files=await self._files(request),
            environment=environment,
        )

    async def _code(self, request: InferenceMaterialsRequest) -> CodeArchive | None:
        if request.code is None:
            return None
        try:
            return await code_archive(self._db, self._stores, request.project_id, request.code.identifier)
        except Conflict as error:
            async with self._db.read() as session:
                commit = await CodeStore(session).commit(request.project_id, request.code.identifier)
            if commit is None:
                raise
            await self._snapshots.ensure_archive(commit)
            if commit.archive_error:
                raise Conflict(
                    f"The files of commit {commit.identifier} could not be read: {commit.archive_error}",
                    code="code_refused",
                ) from error
            raise

    async def _files(self, request: InferenceMaterialsRequest) -> tuple[FileMaterial, ...]:
        async with self._db.read() as session:
            found = await DatumStore(session).in_project(request.project_id, request.datum_ids)
        missing = [str(one) for one in request.datum_ids if one not in found]
        if missing:
            raise Conflict(
                f"Files of this version were purged or deleted: {', '.join(missing)}.", code="file_unavailable"
            )
        return tuple(
            [
                FileMaterial(
                    datum_id=one.id,
                    url=await self._datums.signed_url(one, "worker"),
                    size=one.size,
                    sha256=one.sha256,
                )
                for one in (found[datum_id] for datum_id in request.datum_ids)
            ]
        )
