"""Use cases of code that need rows only. What goes to git or to the store is in `snapshots`."""

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncSession
from valohai_yaml import parse
from valohai_yaml.objs import Config

from slipway_gateway.code.domain import (
    Commit,
    Repository,
    is_adhoc_identifier,
    is_git_sha,
    prefix_of,
)
from slipway_gateway.code.remotes import Transport, parse_remote
from slipway_gateway.code.store import CodeStore
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.secrets.service import SecretService
from slipway_kit.errors import Invalid, NotFound

SECRET_SCOPE = "repository"  # noqa: S105 - the name of a scope
DEFAULT_USERNAME = "x-access-token"
"""User name that goes with a token where none is given; the large hosts take any."""


@dataclass(frozen=True)
class RepositoryLink:
    """What a caller says about a repository. None = leave as it is; an empty token removes the one that is there."""

    url: str
    ref: str = ""
    username: str | None = None
    token: str | None = None


class CodeService:
    """Repositories and commits in one unit of work."""

    def __init__(self, session: AsyncSession, secrets: SecretService) -> None:
        self._store = CodeStore(session)
        self._secrets = secrets

    async def repository(self, project: Project) -> Repository | None:
        """The repository that is linked to a project."""
        return await self._store.repository(project.id)

    async def repositories(self, user: User, request: PageRequest) -> Page[Repository]:
        """Repositories of all projects that the caller may see."""
        return await self._store.repositories(user.id, request)

    async def link_repository(self, project: Project, link: RepositoryLink) -> Repository:
        """Link a repository, or change the link. An ssh address gets a deploy key, whose public part is shown.

        A token that is not given again is kept for the same address only, so that nobody can send it elsewhere.
        Raises `Invalid` on `url` and `token`.
        """
        remote = parse_remote(link.url)
        before = await self._store.repository(project.id)
        same = before is not None and before.url == link.url.strip()
        values: dict[str, Any] = {"url": link.url.strip(), "ref": link.ref.strip()}
        values["username"] = (
            link.username if link.username is not None else (before.username if before and same else "")
        )
        values["token_version"] = before.token_version if before is not None and same else None
        if link.token is not None:
            if link.token and remote.transport is not Transport.HTTP:
                raise Invalid("A token works for https addresses only; ssh uses the deploy key.", field="token")
            values["token_version"] = await self._put(project, "token", link.token) if link.token else None
        if remote.transport is Transport.SSH and (before is None or before.deploy_key_version is None):
            private, public = _new_deploy_key(project)
            values["deploy_key_version"] = await self._put(project, "deploy_key", private)
            values["deploy_public_key"] = public
        return await self._store.put_repository(project.id, values)

    async def credentials(self, repository: Repository) -> "Credentials":
        """The secrets with which the repository is read, for the git runner only."""
        token = key = None
        if repository.token_version is not None:
            token = await self._value(repository, "token", repository.token_version)
        if repository.deploy_key_version is not None:
            key = await self._value(repository, "deploy_key", repository.deploy_key_version)
        return Credentials(repository.username or DEFAULT_USERNAME, token, key)

    async def resolve_commit(self, project: Project, reference: str) -> Commit:
        """The commit that a full identifier, a branch or tag name, or at least 7 digits name.

        Its `config` may still have to be read: `context.snapshots.ensure_config(project, commit)` outside of any unit
        of work. Raises `NotFound`; `Invalid` when the digits fit several commits.
        """
        reference = reference.strip()
        exact = reference.lower()
        if is_git_sha(exact) or is_adhoc_identifier(exact):
            found = await self._store.commit(project.id, exact)
        else:
            found = await self._store.commit_of_ref(project.id, reference) or await self._by_prefix(project, reference)
        if found is None:
            raise NotFound(
                f"The commit {reference!r} is not known in {project.full_name}. "
                "Fetch the repository (vh project fetch) or run with --adhoc."
            )
        return found

    async def commit_anywhere(self, user: User, identifier: str) -> Commit:
        """The newest commit of this identifier in the projects that the caller may see. Raises `NotFound`."""
        found = await self._store.commit_anywhere(user.id, identifier.strip().lower())
        if found is None:
            raise NotFound("This commit does not exist in any of your projects.")
        return found

    async def commits(self, user: User, request: PageRequest, **limits: Any) -> Page[Commit]:
        """Commits of one project (`project_id`), or of all that the caller may see, without their configs."""
        return await self._store.commits(user.id, request, **limits)

    def config_of(self, commit: Commit) -> Config:
        """The commit's YAML as a model. It was validated when it was read.

        Raises `Invalid` on field `commit` when the YAML is missing or cannot be used.
        """
        if commit.config_error is not None:
            raise Invalid(
                f"The file {commit.yaml_path} of this commit cannot be used: {commit.config_error.text}",
                field="commit",
                code="invalid_config",
            )
        if commit.config is None:
            raise Invalid(f"The file {commit.yaml_path} of this commit has not been read yet.", field="commit")
        return parse(commit.config, validate=False)

    async def _by_prefix(self, project: Project, reference: str) -> Commit | None:
        prefix = prefix_of(reference)
        if prefix is None:
            return None
        found = await self._store.commit_by_prefix(project.id, prefix)
        if len(found) > 1:
            raise Invalid(f"Several commits begin with {reference!r}; give more digits.", field="commit")
        return found[0] if found else None

    async def _put(self, project: Project, name: str, value: str) -> int:
        return await self._secrets.put(SECRET_SCOPE, project.id, name, value)

    async def _value(self, repository: Repository, name: str, version: int) -> str:
        return await self._secrets.value(SECRET_SCOPE, repository.project_id, name, version)


@dataclass(frozen=True)
class Credentials:
    """Secrets of a repository. Never logged."""

    username: str
    token: str | None = None
    private_key: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


def _new_deploy_key(project: Project) -> tuple[str, str]:
    """A new Ed25519 key pair in OpenSSH's forms."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} slipway-{project.slug}"
