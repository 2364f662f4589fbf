"""The archive of a commit for those who run it: workers and image builders."""

from uuid import UUID

from slipway_db import Database
from slipway_gateway.code.store import CodeStore
from slipway_gateway.data.domain import URL_LIFETIME
from slipway_gateway.data.opening import Stores
from slipway_kit.errors import Conflict
from slipway_schemas.attempts import CodeArchive


async def code_archive(db: Database, stores: Stores, project_id: UUID, identifier: str) -> CodeArchive:
    """Where the archive can be read for 15 minutes. Raises `Conflict` with code `code_unavailable`."""
    async with db.read() as session:
        commit = await CodeStore(session).commit(project_id, identifier)
    if (
        commit is None
        or commit.archive_key is None
        or commit.archive_stored_sha256 is None
        or commit.archive_size is None
    ):
        raise Conflict(f"The files of commit {identifier} are not in the object store.", code="code_unavailable")
    store = await stores.open(None)
    return CodeArchive(
        url=await store.sign_get(commit.archive_key, expires=URL_LIFETIME, audience="worker"),
        sha256=commit.archive_stored_sha256,
        size=commit.archive_size,
        format=commit.archive_format,
    )
