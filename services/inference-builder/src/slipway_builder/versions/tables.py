"""Table of versions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BuilderBase
from slipway_db import CreatedAt, UuidKey


class VersionRow(BuilderBase):
    """One commit with its files and variables. What was asked for never changes; `enabled` may."""

    __tablename__ = "versions"

    id: Mapped[UuidKey]
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), index=True)
    project_id: Mapped[UUID]
    name: Mapped[str]
    creator_id: Mapped[int]
    creator_name: Mapped[str]
    commit_identifier: Mapped[str]
    adhoc: Mapped[bool]
    code: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    environment_variables: Mapped[dict[str, Any]]
    own_variables: Mapped[dict[str, Any]]
    wanted_aliases: Mapped[list[str]]
    """Aliases that are to be moved here as soon as the version is ready."""
    details: Mapped[dict[str, Any]]
    """The gateway's parts of `valohai-metadata.json`."""
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
