"""Use cases of deployments and their aliases."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_gateway.code.domain import Commit
from slipway_gateway.code.service import CodeService
from slipway_gateway.code.store import CodeStore
from slipway_gateway.executions.drafts import Snapshots
from slipway_gateway.idempotency import id_for
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.builder import CREATE_SECONDS, INTERNAL, MOVE_SECONDS, refused_fields
from slipway_gateway.inference.domain.names import name_problem
from slipway_gateway.inference.domain.records import Alias, AliasMoveRecord, Deployment, VersionLine
from slipway_gateway.inference.domain.request import DeploymentCreate, DeploymentUpdate
from slipway_gateway.inference.store.deployments import DeploymentStore
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.projects.store import ProjectStore
from slipway_gateway.secrets.service import SecretService
from slipway_kit.errors import Invalid, NotFound
from slipway_kit.http import Neighbour
from slipway_kit.vault import Vault
from slipway_schemas.inference.versions import (
    AliasMove,
    AliasMoved,
    Created,
    DeploymentChange,
    DeploymentDraft,
    NameSuggestion,
)

_SHOWN_VERSIONS = 100


@dataclass(frozen=True)
class DeploymentDetail:
    """A deployment with its aliases and newest versions."""

    deployment: Deployment
    aliases: Sequence[Alias]
    versions: Sequence[VersionLine]

    def alias(self, name: str) -> Alias:
        """One of the aliases. Raises `NotFound`."""
        found = next((one for one in self.aliases if one.name == name.lower()), None)
        if found is None:
            raise NotFound(f"The deployment {self.deployment.name} has no alias {name!r:.80}.")
        return found


class DeploymentService:
    """Deployments. It opens its own units of work and closes them before it calls the builder."""

    def __init__(self, db: Database, builder: Neighbour, vault: Vault, snapshots: Snapshots) -> None:
        self._db = db
        self._builder = builder
        self._vault = vault
        self._snapshots = snapshots

    async def page(
        self, user: User, request: PageRequest, *, project_id: UUID | None = None, name: str | None = None
    ) -> Page[DeploymentDetail]:
        """Deployments that the user may see."""
        async with self._db.read() as session:
            store = DeploymentStore(session)
            page = await store.page(user.id, request, project_id=project_id, name=name)
            ids = [one.id for one in page.items]
            aliases = await store.aliases(ids)
            versions = await store.version_lines(ids, newest=_SHOWN_VERSIONS)
        return page.of([DeploymentDetail(one, aliases[one.id], versions[one.id]) for one in page.items])

    async def get(self, user: User, deployment_id: UUID) -> DeploymentDetail:
        """One deployment. Raises `NotFound`."""
        async with self._db.read() as session:
            store = DeploymentStore(session)
            found = await store.visible(user.id, deployment_id)
            if found is None:
                raise NotFound("This deployment does not exist, or you may not see it.")
            aliases = await store.aliases([found.id])
            versions = await store.version_lines([found.id], newest=_SHOWN_VERSIONS)
        return DeploymentDetail(found, aliases[found.id], versions[found.id])

    async def create(self, user: User, request: DeploymentCreate, key: str | None = None) -> DeploymentDetail:
        """A new deployment. The same `key` of the same user gives the same one. Raises `Invalid`."""
        problem = name_problem("a deployment", request.name)
        if problem is not None:
            raise Invalid(problem, field="name")
        async with self._db.read() as session:
            project = await ProjectStore(session).visible(user.id, request.project)
        if project is None:
            raise Invalid("This project does not exist, or you may not see it.", field="project", code="does_not_exist")
        draft = DeploymentDraft(
            id=id_for("deployment", user.id, key),
            project_id=project.id,
            owner_id=project.owner_id,
            creator_id=user.id,
            name=request.name,
            path=f"/{project.owner_slug}/{project.slug}",
            target=request.target or await self._target_of_yaml(user, project, request),
            public=request.public,
        )
        with refused_fields():
            made = await self._builder.post(
                f"{INTERNAL}/deployments", body=draft, result=Created, actor=user.id, timeout=CREATE_SECONDS
            )
        return await self.get(user, made.id)

    async def change(self, user: User, deployment_id: UUID, request: DeploymentUpdate) -> DeploymentDetail:
        """Enable or disable a deployment, open it to all or close it. Raises `NotFound`, `Invalid`."""
        found = (await self.get(user, deployment_id)).deployment
        if request.name is not None and request.name != found.name:
            raise Invalid("The name is part of the addresses that clients call. Make a new deployment.", field="name")
        change = DeploymentChange(enabled=request.enabled, public=request.public)
        if change != DeploymentChange():
            await self._builder.patch(f"{INTERNAL}/deployments/{found.id}", body=change, actor=user.id)
        return await self.get(user, deployment_id)

    async def delete(self, user: User, deployment_id: UUID) -> None:
        """Delete a deployment with all of its versions. Raises `NotFound`."""
        found = (await self.get(user, deployment_id)).deployment
        await self._builder.delete(f"{INTERNAL}/deployments/{found.id}", actor=user.id)

    async def suggested_version_name(self, user: User, deployment_id: UUID) -> str:
        """A free name for the next version (contract 4.2). Raises `NotFound`."""
        found = (await self.get(user, deployment_id)).deployment
        path = f"{INTERNAL}/deployments/{found.id}/suggested-version-name"
        return (await self._builder.get(path, result=NameSuggestion, actor=user.id)).name

    async def move_alias(self, user: User, deployment_id: UUID, name: str, move: AliasMove) -> AliasMoved:
        """Point an alias at a version, at once. Raises `NotFound`, `Invalid`; `Conflict` when it is not ready."""
        found = (await self.get(user, deployment_id)).deployment
        problem = name_problem("an alias", name)
        if problem is not None:
            raise Invalid(problem, field="name")
        path = f"{INTERNAL}/deployments/{found.id}/aliases/{name}"
        with refused_fields():
            return await self._builder.put(path, body=move, result=AliasMoved, actor=user.id, timeout=MOVE_SECONDS)

    async def roll_back_alias(self, user: User, deployment_id: UUID, name: str) -> AliasMoved:
        """Point an alias at the version that it had before. Raises `NotFound`, `Conflict`."""
        alias = (await self.get(user, deployment_id)).alias(name)
        path = f"{INTERNAL}/deployments/{alias.deployment_id}/aliases/{alias.name}/rollback"
        return await self._builder.post(path, result=AliasMoved, actor=user.id, timeout=MOVE_SECONDS)

    async def delete_alias(self, user: User, deployment_id: UUID, name: str) -> None:
        """Remove an alias; its addresses answer no more. Raises `NotFound`."""
        alias = (await self.get(user, deployment_id)).alias(name)
        path = f"{INTERNAL}/deployments/{alias.deployment_id}/aliases/{alias.name}"
        await self._builder.delete(path, actor=user.id, timeout=MOVE_SECONDS)

    async def alias_moves(self, user: User, deployment_id: UUID, alias: str | None = None) -> Sequence[AliasMoveRecord]:
        """Who moved the aliases of a deployment where, newest first. Raises `NotFound`."""
        found = (await self.get(user, deployment_id)).deployment
        async with self._db.read() as session:
            return await DeploymentStore(session).alias_moves(found.id, alias)

    async def _target_of_yaml(self, user: User, project: Project, request: DeploymentCreate) -> str | None:
        """`defaults.target` of the `deployment` item of this name; None = the installation's default."""
        if request.commit is not None:
            commit = await self._named_commit(project, request.commit)
        else:
            newest = await self._newest_commit(user, project)
            if newest is None:
                return None
            commit = newest
        async with self._db.read() as session:
            item = self._code(session).config_of(commit).deployments.get(request.name)
        target = ((item.defaults if item is not None else None) or {}).get("target")
        return str(target) if target else None

    async def _named_commit(self, project: Project, reference: str) -> Commit:
        async with self._db.read() as session:
            try:
                commit = await self._code(session).resolve_commit(project, reference)
            except NotFound as error:
                raise Invalid(error.message, field="commit", code="does_not_exist") from error
        return await self._snapshots.ensure_config(project, commit)

    async def _newest_commit(self, user: User, project: Project) -> Commit | None:
        """The newest commit, if its YAML was read and is good."""
        async with self._db.read() as session:
            store = CodeStore(session)
            page = await store.commits(user.id, PageRequest(limit=1, count=False), project_id=project.id)
            if not page.items or not page.items[0].has_config:
                return None
            return await store.commit(project.id, page.items[0].identifier)

    def _code(self, session: AsyncSession) -> CodeService:
        return CodeService(session, SecretService(session, self._vault))
