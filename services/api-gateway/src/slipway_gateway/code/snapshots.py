"""What is found out about commits from git and put into the object store: configs, archives, fetches, packages.

Everything here opens short units of work of its own and is called outside of any.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from slipway_db import Database, emit, notify
from slipway_db.leases import apply, fetch
from slipway_gateway.code.archives import StoredArchive, store_commit
from slipway_gateway.code.domain import Commit, ConfigError, FetchResult, Ref, RefKind, Repository
from slipway_gateway.code.git import Git, GitError
from slipway_gateway.code.mirror import Mirror, Remotes, SnapshotRefused, explain
from slipway_gateway.code.service import CodeService, Credentials
from slipway_gateway.code.store import CodeStore
from slipway_gateway.code.tables import CommitRow
from slipway_gateway.code.yaml_reader import YamlReader, YamlResult
from slipway_gateway.projects.domain import Project
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.settings import GatewaySettings
from slipway_kit.clock import Clock
from slipway_kit.errors import Invalid, SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_kit.vault import Vault
from slipway_schemas.events import CommitArchived
from slipway_storage import ObjectStore

ARCHIVE_CHANNEL = "gateway_archives"
EAGER_HEADS = 20
"""Branches whose moved heads are read and archived at the fetch, the default branch first; others at first use."""
LEASE_SECONDS = 900.0
"""Longer than an archive may take."""


@dataclass(frozen=True)
class _Linked:
    repository: Repository
    credentials: Credentials
    refs: Sequence[Ref]


class SnapshotService:
    """Fetches repositories, reads configs and makes archives."""

    def __init__(
        self, db: Database, *, settings: GatewaySettings, store: ObjectStore, vault: Vault, clock: Clock
    ) -> None:
        self._db = db
        self._store = store
        self._vault = vault
        self._clock = clock
        self._cache_dir = settings.git.cache_dir
        self._work_dir = settings.upload_dir
        self._timeout = settings.git.fetch_timeout.total_seconds()
        self._git = Git(settings.git.cache_dir / "home", trust_local=bool(settings.git.allow_local_paths))
        self.remotes = Remotes(
            settings.git.cache_dir,
            allowed=settings.egress.allow_control_plane,
            local_paths=settings.git.allow_local_paths,
        )
        self.yaml = YamlReader()
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def close(self) -> None:
        """End the processes that read YAML."""
        await self.yaml.close()

    async def fetch(self, project: Project) -> FetchResult:
        """Fetch all branches and tags of the project's repository; only heads that are new or moved are reported.

        What is wrong with the remote comes back in `errors`, in words. Raises `Invalid` on `repository` when there is
        none.
        """
        async with self._locks[project.id]:
            linked = await self._linked(project.id)
            if linked is None:
                raise Invalid(
                    "The project has no repository. Link one in the project's settings, or run with --adhoc.",
                    field="repository",
                    code="required",
                )
            try:
                return await self._fetch(project, linked)
            except (GitError, Invalid) as error:
                return FetchResult((), (error.message,))

    async def ensure_config(self, project: Project, commit: Commit) -> Commit:
        """The commit with its YAML read: from the row, or from git at first use or after the path has changed."""
        current = commit.adhoc or commit.yaml_path == project.yaml_path
        if current and (commit.config is not None or commit.config_error is not None):
            return commit
        async with self._locks[project.id]:
            mirror = await self._mirror_with(project.id, commit.identifier)
            config, error = await self._read_yaml(mirror, commit.identifier, project.yaml_path)
        async with self._db.transaction() as session:
            store = CodeStore(session)
            await store.set_config(commit.id, project.yaml_path, config, error)
            return await store.commit(project.id, commit.identifier) or commit

    async def ensure_archive(self, commit: Commit) -> None:
        """Ask for the commit's archive, to be called after an execution that waits for it was created.

        An archive that has been made meanwhile is announced again, so that no order of events leaves a run waiting.
        """
        async with self._db.transaction() as session:
            store = CodeStore(session)
            now = await store.commit(commit.project_id, commit.identifier)
            if now is None:
                return
            if now.archive_key is not None:
                event = _archived(now.project_id, now.identifier, now.archive_key, now.archive_stored_sha256)
                await emit(session, event, actor=None)
            else:
                await store.want_archive(now.id)
                await notify(session, ARCHIVE_CHANNEL)

    async def archive_wanted(self) -> int:
        """Make one wanted archive and announce it, or its failure. Returns how many commits were handled."""
        table = CommitRow.__table__
        async with self._db.transaction() as session:
            lease = await fetch(
                session,
                table,  # type: ignore[arg-type]
                table.c.archive_wanted_at.is_not(None),
                order_by=[table.c.archive_wanted_at],
                limit=1,
                seconds=LEASE_SECONDS,
            )
        for row in lease.rows:
            stored, problem = await self._try_archive(row["project_id"], row["identifier"])
            values = {
                "archive_wanted_at": None,
                "archive_sha256": stored.sha256 if stored else None,
                "archive_error": problem or None,
            }
            async with self._db.transaction() as session:
                if stored is not None:
                    await _note_archive(CodeStore(session), stored)
                if await apply(session, table, row["id"], lease.token, values):  # type: ignore[arg-type]
                    key, sha256 = (stored.key, stored.stored_sha256) if stored else (None, None)
                    event = _archived(row["project_id"], row["identifier"], key, sha256, problem)
                    await emit(session, event, actor=None)
        return len(lease.rows)

    async def _fetch(self, project: Project, linked: _Linked) -> FetchResult:
        mirror = self._mirror(project.id)
        default = await self._update(mirror, linked)
        before = {(ref.kind, ref.name): ref.head for ref in linked.refs}
        refs = await mirror.refs()
        wanted = linked.repository.ref or default
        order = sorted(refs, key=lambda ref: (ref.kind is RefKind.TAG, ref.name != wanted, ref.name))
        moved = [ref for ref in order if before.get((ref.kind, ref.name)) != ref.head]
        known = set(before.values())
        found = []
        for ref in moved:
            if ref.kind is RefKind.TAG:
                lines = await mirror.log(ref.head, limit=1)
            else:
                lines = await mirror.log(ref.head, without=sorted(known))
                known.add(ref.head)
            found.append((ref, lines))
        async with self._db.transaction() as session:
            store = CodeStore(session)
            for ref, lines in found:
                await store.add_commits(project.id, linked.repository.id, ref.name, project.yaml_path, lines)
            await store.replace_refs(project.id, refs)
            await store.mark_fetched(project.id)
        errors = await self._take_heads(project, mirror, [ref for ref in moved if ref.kind is RefKind.BRANCH])
        return FetchResult(tuple((ref.name, ref.head) for ref in moved), tuple(errors))

    async def _take_heads(self, project: Project, mirror: Mirror, moved: Sequence[Ref]) -> list[str]:
        """Read the YAML of moved heads and archive them; what is wrong with them is no error of the fetch."""
        errors: list[str] = []
        for head in list(dict.fromkeys(ref.head for ref in moved))[:EAGER_HEADS]:
            async with self._db.read() as session:
                commit = await CodeStore(session).commit(project.id, head)
            if commit is None:
                continue
            config, error = await self._read_yaml(mirror, head, project.yaml_path)
            stored: StoredArchive | None = None
            problem = ""
            if commit.archive_sha256 is None:
                try:
                    stored = await store_commit(self._store, mirror, head, self._work_dir)
                except (SnapshotRefused, GitError, Unavailable) as failure:
                    problem = failure.message
                    errors.append(f"{head[:12]}: {problem}")
            async with self._db.transaction() as session:
                store = CodeStore(session)
                await store.set_config(commit.id, project.yaml_path, config, error)
                if stored is not None:
                    await _note_archive(store, stored)
                    await store.set_archive(commit.id, stored.sha256)
        return errors

    async def _try_archive(self, project_id: UUID, identifier: str) -> tuple[StoredArchive | None, str]:
        try:
            async with self._locks[project_id]:
                mirror = await self._mirror_with(project_id, identifier)
                return await store_commit(self._store, mirror, identifier, self._work_dir), ""
        except SlipwayError as error:
            get_logger().warning(
                "commit_archive_failed", project_id=str(project_id), identifier=identifier, error=error.message
            )
            return None, error.message

    async def _mirror_with(self, project_id: UUID, identifier: str) -> Mirror:
        """The mirror, fetched again when the cache has lost the commit. Raises `GitError`, `Invalid`."""
        mirror = self._mirror(project_id)
        if await mirror.has(identifier):
            return mirror
        linked = await self._linked(project_id)
        if linked is not None:
            await self._update(mirror, linked)
        if not await mirror.has(identifier):
            raise Invalid(
                f"The commit {identifier} is not in the repository any more, and no snapshot of it was made.",
                field="commit",
                code="code_unavailable",
            )
        return mirror

    async def _update(self, mirror: Mirror, linked: _Linked) -> str:
        async with self.remotes.open(linked.repository.url, linked.credentials) as remote:
            try:
                return await mirror.fetch(remote, timeout=self._timeout)
            except GitError as error:
                secret = linked.credentials
                message = explain(error, has_key=bool(secret.private_key), has_token=bool(secret.token))
                raise GitError(message, error.stderr) from error

    async def _read_yaml(self, mirror: Mirror, sha: str, path: str) -> YamlResult:
        try:
            content = await mirror.file(sha, path)
        except SnapshotRefused as error:
            return None, ConfigError(error.message)
        if content is None:
            hint = "Commit the file, or set the project's YAML path."
            return None, ConfigError(f"The commit has no file {path}.", None, hint)
        return await self.yaml.read(content)

    async def _linked(self, project_id: UUID) -> _Linked | None:
        async with self._db.read() as session:
            store = CodeStore(session)
            repository = await store.repository(project_id)
            if repository is None:
                return None
            code = CodeService(session, SecretService(session, self._vault))
            return _Linked(repository, await code.credentials(repository), await store.refs(project_id))

    def _mirror(self, project_id: UUID) -> Mirror:
        return Mirror(self._git, self._cache_dir / "mirrors" / f"{project_id}.git")


async def _note_archive(store: CodeStore, stored: StoredArchive) -> None:
    await store.add_archive(
        stored.sha256,
        key=stored.key,
        archive_format=stored.format,
        size=stored.size,
        stored_sha256=stored.stored_sha256,
    )


def _archived(
    project_id: UUID, identifier: str, key: str | None, sha256: str | None, error: str = ""
) -> CommitArchived:
    return CommitArchived(
        project_id=project_id, identifier=identifier, archive_key=key, archive_sha256=sha256, error=error
    )
