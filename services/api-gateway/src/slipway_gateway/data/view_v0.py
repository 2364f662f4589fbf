"""Shapes of data in the compatible API (contract 1.2)."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from slipway_gateway.data.domain import BUILT_IN_STORE_ID, Alias, ConnectedStore, Datum
from slipway_gateway.v0.fields import Timestamp
from slipway_gateway.v0.urls import api_path


class OutputExecutionV0(BaseModel):
    """The execution that made a file."""

    id: UUID
    counter: int | None


class DatumV0(BaseModel):
    """A file."""

    id: UUID
    name: str
    size: int
    ctime: Timestamp
    uri: str | None
    output_execution: OutputExecutionV0 | None
    purged: bool
    deleted: bool
    file_ctime: Timestamp | None
    file_mtime: Timestamp | None
    md5: str
    sha1: str
    sha256: str
    store: UUID
    tags: list[str]
    aliases: list[str]
    project: UUID
    url: str


class AliasV0(BaseModel):
    """A movable name of a file."""

    id: UUID
    name: str
    datum: DatumV0 | None
    ctime: Timestamp
    mtime: Timestamp
    project: UUID
    url: str


class StoreV0(BaseModel):
    """An object store. Credentials are write-only."""

    id: UUID
    name: str
    type: str
    access_mode: str
    allow_read: bool
    allow_write: bool
    allow_uri_download: bool
    allow_adopt: bool
    configuration: dict[str, Any]
    owner: int | None
    project: UUID | None
    paths: dict[str, Any]
    teams: list[int]
    ctime: Timestamp | None
    mtime: Timestamp | None
    deleted: bool
    uri_prefix: str | None
    url: str


def datum_v0(datum: Datum) -> DatumV0:
    """A file in the compatible form."""
    made_by = datum.output_execution
    return DatumV0(
        id=datum.id,
        name=datum.name,
        size=datum.size,
        ctime=datum.created_at,
        uri=datum.uri,
        output_execution=None if made_by is None else OutputExecutionV0(id=made_by.id, counter=made_by.counter),
        purged=datum.purged_at is not None,
        deleted=datum.deleted_at is not None,
        file_ctime=datum.file_modified_at,
        file_mtime=datum.file_modified_at,
        md5=datum.md5,
        sha1=datum.sha1,
        sha256=datum.sha256,
        store=datum.store_id or BUILT_IN_STORE_ID,
        tags=list(datum.tags),
        aliases=list(datum.aliases),
        project=datum.project_id,
        url=api_path("data", datum.id),
    )


def alias_v0(alias: Alias) -> AliasV0:
    """An alias in the compatible form."""
    return AliasV0(
        id=alias.id,
        name=alias.name,
        datum=None if alias.datum is None else datum_v0(alias.datum),
        ctime=alias.created_at,
        mtime=alias.updated_at,
        project=alias.project_id,
        url=api_path("datum-aliases", alias.id),
    )


def store_v0(store: ConnectedStore) -> StoreV0:
    """A connected store in the compatible form."""
    return StoreV0(
        id=store.id,
        name=store.name,
        type=store.type,
        access_mode=store.access_mode,
        allow_read=store.allow_read,
        allow_write=store.allow_write,
        allow_uri_download=store.allow_uri_download,
        allow_adopt=False,
        configuration=store.configuration,
        owner=store.owner_id,
        project=store.project_id,
        paths={},
        teams=[],
        ctime=store.created_at,
        mtime=store.updated_at,
        deleted=False,
        uri_prefix=store.uri_prefix,
        url=api_path("stores", store.id),
    )


def built_in_store_v0() -> StoreV0:
    """The installation's own store, which nobody can change."""
    return StoreV0(
        id=BUILT_IN_STORE_ID,
        name="Slipway",
        type="slipway",
        access_mode="public",
        allow_read=True,
        allow_write=True,
        allow_uri_download=False,
        allow_adopt=False,
        configuration={},
        owner=None,
        project=None,
        paths={},
        teams=[],
        ctime=None,
        mtime=None,
        deleted=False,
        uri_prefix=None,
        url=api_path("stores", BUILT_IN_STORE_ID),
    )
