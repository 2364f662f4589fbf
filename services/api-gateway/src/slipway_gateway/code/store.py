"""SQL of code."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from slipway_gateway.code.domain import ArchiveFormat, Commit, CommitLine, ConfigError, Ref, RefKind, Repository
from slipway_gateway.code.tables import ArchiveRow, CommitRow, RefRow, RepositoryRow
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.store import visible_project_ids
from slipway_kit.ids import new_id

_INSERT_BATCH = 1000


class CodeStore:
    """Reads and writes repositories, refs, commits and archives in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def repository(self, project_id: UUID) -> Repository | None:
        """The repository of a project."""
        row = await self._session.scalar(select(RepositoryRow).where(RepositoryRow.project_id == project_id))
        return None if row is None else _repository(row)

    async def repositories(self, user_id: int, request: PageRequest) -> Page[Repository]:
        """Repositories of the projects that a user may see."""
        statement = select(RepositoryRow).where(RepositoryRow.project_id.in_(visible_project_ids(user_id)))
        identity = RepositoryRow.__table__.c.id
        page = await fetch_page(
            self._session, statement, request, orderings={"id": identity}, default="id", key=identity
        )
        return page.of([_repository(row[0]) for row in page.items])

    async def put_repository(self, project_id: UUID, values: Mapping[str, Any]) -> Repository:
        """Link a repository to a project, or change the one that is linked."""
        statement = insert(RepositoryRow).values(project_id=project_id, **values)
        statement = statement.on_conflict_do_update(index_elements=[RepositoryRow.project_id], set_=dict(values))
        row = await self._session.scalar(
            statement.returning(RepositoryRow), execution_options={"populate_existing": True}
        )
        if row is None:
            raise LookupError("an upsert returned no row")
        return _repository(row)

    async def refs(self, project_id: UUID) -> Sequence[Ref]:
        """Branches and tags as of the last fetch."""
        rows = await self._session.scalars(select(RefRow).where(RefRow.project_id == project_id).order_by(RefRow.name))
        return [Ref(RefKind(row.kind), row.name, row.head) for row in rows]

    async def replace_refs(self, project_id: UUID, refs: Sequence[Ref]) -> None:
        """Remember where branches and tags stand now."""
        await self._session.execute(delete(RefRow).where(RefRow.project_id == project_id))
        for start in range(0, len(refs), _INSERT_BATCH):
            rows = [
                {"project_id": project_id, "kind": ref.kind, "name": ref.name, "head": ref.head}
                for ref in refs[start : start + _INSERT_BATCH]
            ]
            await self._session.execute(insert(RefRow), rows)

    async def mark_fetched(self, project_id: UUID) -> None:
        """Note the time of a fetch that worked."""
        statement = update(RepositoryRow).where(RepositoryRow.project_id == project_id)
        await self._session.execute(statement.values(fetched_at=func.now()))

    async def add_commits(
        self, project_id: UUID, repository_id: int, ref: str, yaml_path: str, lines: Sequence[CommitLine]
    ) -> None:
        """Rows for commits of a branch; those that have one keep it."""
        for start in range(0, len(lines), _INSERT_BATCH):
            rows = [
                {
                    "id": new_id(),
                    "project_id": project_id,
                    "repository_id": repository_id,
                    "identifier": line.sha,
                    "ref": ref,
                    "description": line.description,
                    "commit_time": line.commit_time,
                    "yaml_path": yaml_path,
                }
                for line in lines[start : start + _INSERT_BATCH]
            ]
            await self._session.execute(insert(CommitRow).values(rows).on_conflict_do_nothing())

    async def add_adhoc(self, project_id: UUID, identifier: str, values: Mapping[str, Any]) -> None:
        """A row for an ad-hoc package; a package that is known keeps its row."""
        statement = insert(CommitRow).values(
            id=new_id(), project_id=project_id, identifier=identifier, adhoc=True, **values
        )
        await self._session.execute(statement.on_conflict_do_nothing())

    async def commit(self, project_id: UUID, identifier: str) -> Commit | None:
        """A commit by its full identifier."""
        return await self._one(_commits().where(CommitRow.project_id == project_id, CommitRow.identifier == identifier))

    async def commit_by_prefix(self, project_id: UUID, prefix: str) -> Sequence[Commit]:
        """Up to two commits whose identifier begins so: two mean that it is not clear which."""
        statement = _commits().where(
            CommitRow.project_id == project_id, CommitRow.identifier.startswith(prefix, autoescape=True)
        )
        return [_commit(row) for row in await self._session.execute(statement.limit(2))]

    async def commit_of_ref(self, project_id: UUID, name: str) -> Commit | None:
        """The commit that a branch, or else a tag, stands at."""
        statement = (
            _commits()
            .join(RefRow, (RefRow.project_id == CommitRow.project_id) & (RefRow.head == CommitRow.identifier))
            .where(CommitRow.project_id == project_id, RefRow.name == name)
            .order_by(RefRow.kind)
            .limit(1)
        )
        return await self._one(statement)

    async def commit_anywhere(self, user_id: int, identifier: str) -> Commit | None:
        """The newest commit of this identifier in all projects that a user may see."""
        statement = (
            _commits()
            .where(CommitRow.identifier == identifier, CommitRow.project_id.in_(visible_project_ids(user_id)))
            .order_by(CommitRow.commit_time.desc(), CommitRow.id.desc())
            .limit(1)
        )
        return await self._one(statement)

    async def commits(
        self,
        user_id: int,
        request: PageRequest,
        *,
        project_id: UUID | None = None,
        adhoc: bool | None = None,
        identifier: str | None = None,
    ) -> Page[Commit]:
        """Commits of one project, or of all that a user may see. Their configs are not read."""
        statement = _commits(with_config=False).where(CommitRow.project_id.in_(visible_project_ids(user_id)))
        if project_id is not None:
            statement = statement.where(CommitRow.project_id == project_id)
        if adhoc is not None:
            statement = statement.where(CommitRow.adhoc == adhoc)
        if identifier is not None:
            statement = statement.where(CommitRow.identifier == identifier)
        columns = CommitRow.__table__.c
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={
                "commit_time": columns.commit_time,
                "ctime": columns.created_at,
                "identifier": columns.identifier,
            },
            default="-commit_time",
            key=columns.id,
        )
        return page.of([_commit(row) for row in page.items])

    async def set_config(
        self, commit_id: UUID, yaml_path: str, config: list[Any] | None, error: ConfigError | None
    ) -> None:
        """Note what the YAML of a commit holds."""
        values = {"yaml_path": yaml_path, "config": config, "config_error": error.as_json() if error else None}
        await self._session.execute(update(CommitRow).where(CommitRow.id == commit_id).values(**values))

    async def add_archive(
        self, sha256: str, *, key: str, archive_format: ArchiveFormat, size: int, stored_sha256: str
    ) -> None:
        """Note an archive that is in the store."""
        statement = insert(ArchiveRow).values(
            sha256=sha256, key=key, format=archive_format, size=size, stored_sha256=stored_sha256
        )
        await self._session.execute(statement.on_conflict_do_nothing())

    async def has_archive(self, sha256: str) -> bool:
        """Whether an archive of this content is in the store."""
        return await self._session.get(ArchiveRow, sha256) is not None

    async def set_archive(self, commit_id: UUID, sha256: str) -> None:
        """A commit's files are in the store."""
        statement = update(CommitRow).where(CommitRow.id == commit_id)
        await self._session.execute(statement.values(archive_sha256=sha256, archive_error=None))

    async def want_archive(self, commit_id: UUID) -> None:
        """Ask the loop for a commit's archive."""
        statement = update(CommitRow).where(CommitRow.id == commit_id)
        await self._session.execute(statement.values(archive_wanted_at=func.now()))

    async def _one(self, statement: Select[Any]) -> Commit | None:
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else _commit(row)


def _commits(*, with_config: bool = True) -> Select[Any]:
    """Commits with their archive and the refs that stand at them."""
    standing = aliased(RefRow)
    names = (
        select(func.array_agg(standing.name))
        .where(standing.project_id == CommitRow.project_id, standing.head == CommitRow.identifier)
        .correlate(CommitRow)
        .scalar_subquery()
    )
    config = CommitRow.config if with_config else literal(None)
    return (
        select(
            CommitRow.id,
            CommitRow.project_id,
            CommitRow.identifier,
            CommitRow.repository_id,
            CommitRow.ref,
            names.label("names"),
            CommitRow.adhoc,
            CommitRow.description,
            CommitRow.commit_time,
            CommitRow.created_at,
            CommitRow.yaml_path,
            config.label("config"),
            CommitRow.config.is_not(None).label("has_config"),
            CommitRow.config_error,
            CommitRow.archive_sha256,
            ArchiveRow.key.label("archive_key"),
            ArchiveRow.format.label("archive_format"),
            ArchiveRow.stored_sha256.label("archive_stored_sha256"),
            ArchiveRow.size.label("archive_size"),
            CommitRow.archive_error,
        )
        .select_from(CommitRow)
        .outerjoin(ArchiveRow, ArchiveRow.sha256 == CommitRow.archive_sha256)
    )


def _commit(row: Row[Any]) -> Commit:
    error = row.config_error
    return Commit(
        id=row.id,
        project_id=row.project_id,
        identifier=row.identifier,
        repository_id=row.repository_id,
        ref=row.ref,
        ref_names=tuple(sorted(row.names or ())),
        adhoc=row.adhoc,
        description=row.description,
        commit_time=row.commit_time,
        created_at=row.created_at,
        yaml_path=row.yaml_path,
        config=row.config,
        config_error=None if error is None else ConfigError(error["message"], error.get("line"), error.get("hint", "")),
        archive_sha256=row.archive_sha256,
        archive_key=row.archive_key,
        archive_format=row.archive_format or "tar.zst",
        archive_stored_sha256=row.archive_stored_sha256,
        archive_size=row.archive_size,
        archive_error=row.archive_error,
        has_config=row.has_config,
    )


def _repository(row: RepositoryRow) -> Repository:
    return Repository(
        id=row.id,
        project_id=row.project_id,
        url=row.url,
        ref=row.ref,
        username=row.username,
        token_version=row.token_version,
        deploy_key_version=row.deploy_key_version,
        deploy_public_key=row.deploy_public_key,
        fetched_at=row.fetched_at,
    )
