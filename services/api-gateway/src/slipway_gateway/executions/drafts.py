"""Builds the draft of an execution out of a request: the gateway's half of `POST executions/`."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from valohai_yaml.objs import Step

from slipway_db import Database
from slipway_gateway.code.domain import Commit
from slipway_gateway.code.service import CodeService
from slipway_gateway.data.store.stores import StoreStore
from slipway_gateway.environments.service import EnvironmentService
from slipway_gateway.executions.domain.environments import EnvironmentChoice, choose_environment
from slipway_gateway.executions.domain.problems import Problems
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.domain.resolution import find_step, resolve_step
from slipway_gateway.executions.domain.variables import GroupChoice
from slipway_gateway.executions.inputs import freeze_inputs
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.projects.store import ProjectStore
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.variables.domain import VariableGroup
from slipway_gateway.variables.references import inherited_by, of_group
from slipway_gateway.variables.store import VariableStore
from slipway_kit.errors import FieldProblem, Invalid, NotFound
from slipway_kit.vault import Vault
from slipway_schemas.executions import ExecutionDraft, ExecutionSpec


class Snapshots(Protocol):
    """What drafts need of the code feature outside of a unit of work."""

    async def ensure_config(self, project: Project, commit: Commit) -> Commit:
        """The commit with its YAML read."""
        ...

    async def ensure_archive(self, commit: Commit) -> None:
        """Ask for the commit's archive, after the execution that waits for it was created."""
        ...


class DraftBuilder:
    """Resolves requests. Everything wrong with one is told in one answer, by field."""

    def __init__(self, db: Database, vault: Vault, snapshots: Snapshots) -> None:
        self._db = db
        self._vault = vault
        self._snapshots = snapshots

    async def build(self, user: User, request: RunRequest, execution_id: UUID) -> tuple[ExecutionDraft, Commit]:
        """The draft, and the commit whose archive it waits for. Raises `Invalid`."""
        async with self._db.read() as session:
            project, commit = await self._project_and_commit(session, user, request)
        commit = await self._snapshots.ensure_config(project, commit)
        async with self._db.read() as session:
            return await self._draft(session, user, request, execution_id, project, commit), commit

    async def _project_and_commit(
        self, session: AsyncSession, user: User, request: RunRequest
    ) -> tuple[Project, Commit]:
        project = await ProjectStore(session).visible(user.id, request.project)
        if project is None:
            raise Invalid("This project does not exist, or you may not see it.", field="project", code="does_not_exist")
        try:
            return project, await self._code(session).resolve_commit(project, request.commit)
        except NotFound as error:
            raise Invalid(error.message, field="commit", code="does_not_exist") from error

    async def _draft(
        self,
        session: AsyncSession,
        user: User,
        request: RunRequest,
        execution_id: UUID,
        project: Project,
        commit: Commit,
    ) -> ExecutionDraft:
        problems = Problems()
        step: Step | None = find_step(self._code(session).config_of(commit), request.step, problems)
        candidates = (await EnvironmentService(session).page(user, PageRequest())).items
        environment = choose_environment(
            [EnvironmentChoice(one.id, one.slug, one.name, one.enabled) for one in candidates],
            given=request.environment,
            step=None if step is None else step.environment,
            project_default=project.default_environment_id,
            problems=problems,
        )
        if step is None or environment is None:
            raise invalid(problems)
        owned = await VariableStore(session).groups(project.owner_id)
        run = resolve_step(request, step, inherited_by(project, owned), _choices(owned), problems)
        inputs = await freeze_inputs(session, project.id, user.id, run.inputs, problems)
        upload_store_id = await self._upload_store(session, project, run.upload_store, problems)
        if problems.found:
            raise invalid(problems)
        spec = ExecutionSpec(
            code=commit.code_ref,
            step=run.step,
            image=run.image,
            command=run.command,
            interpolated_command=run.interpolated_command,
            parameters=run.parameters,
            parameter_categories=run.parameter_categories,
            inputs=inputs,
            environment_variables=run.environment_variables,
            mounts=run.mounts,
            cache_volumes=run.cache_volumes,
            resources=run.resources,
            time_limit_seconds=run.time_limit_seconds,
            no_output_timeout_seconds=run.no_output_timeout_seconds,
            stop_condition=run.stop_condition,
            autorestart=run.autorestart,
            upload_store_id=upload_store_id,
            debug_port=run.debug_port,
            debug_key=run.debug_key,
            step_icon=run.icon,
            category=run.category,
            runtime_config=run.runtime_config,
        )
        return ExecutionDraft(
            id=execution_id,
            project_id=project.id,
            project_name=project.full_name,
            owner_id=project.owner_id,
            creator_id=user.id,
            creator_name=user.username,
            creator_email=user.email,
            environment_id=environment.id,
            title=request.title or None,
            tags=tuple(dict.fromkeys(tag.strip() for tag in request.tags if tag.strip())),
            priority=request.priority,
            spec=spec,
        )

    def _code(self, session: AsyncSession) -> CodeService:
        return CodeService(session, SecretService(session, self._vault))

    @staticmethod
    async def _upload_store(
        session: AsyncSession, project: Project, named: str | None, problems: Problems
    ) -> UUID | None:
        if named is None:
            return project.upload_store_id
        stores = await StoreStore(session).of_project(project.id)
        wanted = named.strip().lower()
        for one in stores:
            if one.allow_write and wanted in (str(one.id), one.name.lower()):
                return one.id
        known = ", ".join(one.name for one in stores if one.allow_write) or "none"
        problems.add(
            "upload_store",
            f"The step's upload-store {named!r:.70} is not connected to this project for writing; there are: {known}.",
            "does_not_exist",
        )
        return None


def invalid(problems: Problems) -> Invalid:
    """One error out of all problems."""
    return Invalid.of_fields(
        {field: [FieldProblem(one.message, one.code) for one in found] for field, found in problems.found.items()}
    )


def _choices(groups: Sequence[VariableGroup]) -> list[GroupChoice]:
    return [GroupChoice(one.id, one.name, of_group(one)) for one in groups if one.name is not None]
