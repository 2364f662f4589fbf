"""Builds the draft of a version out of a request: the gateway's half of `POST deployment-versions/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_gateway.code.domain import Commit
from slipway_gateway.code.service import CodeService
from slipway_gateway.data.domain import Datum
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.executions.domain.problems import Problems
from slipway_gateway.executions.drafts import Snapshots, invalid
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.domain.names import name_problem
from slipway_gateway.inference.domain.records import Deployment
from slipway_gateway.inference.domain.request import VersionRequest
from slipway_gateway.inference.domain.resolution import FIELD, ResolvedEndpoint, WantedFile, resolve_endpoints
from slipway_gateway.inference.domain.variables import version_variables
from slipway_gateway.inference.store.deployments import DeploymentStore
from slipway_gateway.inference.view_v0 import build_metadata
from slipway_gateway.projects.domain import Project
from slipway_gateway.projects.store import ProjectStore
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.variables.references import inherited_by
from slipway_gateway.variables.store import VariableStore
from slipway_kit.errors import Invalid, NotFound
from slipway_kit.vault import Vault
from slipway_schemas.inference.versions import EndpointDraft, EndpointFile, VersionDraft


@dataclass(frozen=True)
class Place:
    """Where a version is made: its deployment, the project, and the commit with its YAML read."""

    deployment: Deployment
    project: Project
    commit: Commit


class VersionDrafts:
    """Resolves requests. Everything wrong with one is told in one answer, by field."""

    def __init__(
        self, db: Database, vault: Vault, snapshots: Snapshots, *, public_url: str, max_file_bytes: int
    ) -> None:
        self._db = db
        self._vault = vault
        self._snapshots = snapshots
        self._public_url = public_url
        self._max_file_bytes = max_file_bytes

    async def build(self, user: User, request: VersionRequest, version_id: UUID) -> tuple[VersionDraft, Commit]:
        """The draft, and the commit whose archive the build needs. Raises `Invalid`."""
        place = await self._place(user, request)
        async with self._db.read() as session:
            return await self._draft(session, user, request, version_id, place), place.commit

    async def _place(self, user: User, request: VersionRequest) -> Place:
        async with self._db.read() as session:
            deployment = await DeploymentStore(session).visible(user.id, request.deployment)
            if deployment is None:
                raise Invalid(
                    "This deployment does not exist, or you may not see it.", field="deployment", code="does_not_exist"
                )
            project = await ProjectStore(session).visible(user.id, deployment.project_id)
            if project is None:
                raise Invalid("The project of this deployment is gone.", field="deployment", code="does_not_exist")
            try:
                commit = await self._code(session).resolve_commit(project, request.commit)
            except NotFound as error:
                raise Invalid(error.message, field="commit", code="does_not_exist") from error
        return Place(deployment, project, await self._snapshots.ensure_config(project, commit))

    async def _draft(
        self, session: AsyncSession, user: User, request: VersionRequest, version_id: UUID, place: Place
    ) -> VersionDraft:
        problems = Problems()
        for field, what, names in (
            ("name", "a version", [request.name] if request.name is not None else []),
            ("aliases", "an alias", request.aliases),
        ):
            for problem in filter(None, (name_problem(what, name) for name in names)):
                problems.add(field, problem)
        if request.name is not None and request.name in request.aliases:
            problems.add("aliases", f"{request.name} is the version's own name; an alias needs another one.")
        config = self._code(session).config_of(place.commit)
        resolved = resolve_endpoints(config, request.endpoint_configurations, problems)
        inherited = inherited_by(place.project, await VariableStore(session).groups(place.project.owner_id))
        variables, own = version_variables(
            request.environment_variables,
            inherited if request.inherit_environment_variables else {},
            problems,
        )
        ids = [file.datum_id for one in resolved for file in one.files]
        datums = await DatumStore(session).in_project(place.project.id, ids) if ids else {}
        endpoints = tuple(
            EndpointDraft(
                spec=one.spec.model_copy(update={"files": self._files(one, datums, problems)}),
                enabled=one.enabled,
                scale=one.scale,
            )
            for one in resolved
        )
        if problems.found:
            raise invalid(problems)
        return VersionDraft(
            id=version_id,
            deployment_id=place.deployment.id,
            project_id=place.project.id,
            name=request.name,
            creator_id=user.id,
            creator_name=user.username,
            code=place.commit.code_ref,
            enabled=request.enabled,
            environment_variables=variables,
            own_variables=own,
            endpoints=endpoints,
            aliases=tuple(dict.fromkeys(request.aliases)),
            metadata=build_metadata(place.project, place.commit, list(datums.values()), self._public_url),
        )

    def _files(
        self, endpoint: ResolvedEndpoint, datums: dict[UUID, Datum], problems: Problems
    ) -> Sequence[EndpointFile]:
        found = []
        for one in endpoint.files:
            datum = datums.get(one.datum_id)
            if datum is None:
                problems.add(
                    FIELD,
                    f"{endpoint.spec.name}: the datum {one.datum_id} for file {one.name} does not exist in this "
                    "project, or was purged.",
                    "does_not_exist",
                )
            elif datum.size > self._max_file_bytes:
                problems.add(
                    FIELD,
                    f"{endpoint.spec.name}: {datum.name} for file {one.name} has {datum.size} bytes; a file in an "
                    f"image has at most {self._max_file_bytes}. Let the server read it from a volume instead.",
                    "too_large",
                )
            else:
                found.append(_file(one, datum))
        return tuple(found)

    def _code(self, session: AsyncSession) -> CodeService:
        return CodeService(session, SecretService(session, self._vault))


def _file(wanted: WantedFile, datum: Datum) -> EndpointFile:
    return EndpointFile(
        name=wanted.name,
        path=wanted.path,
        datum_id=datum.id,
        datum_name=datum.name,
        size=datum.size,
        sha256=datum.sha256,
    )
