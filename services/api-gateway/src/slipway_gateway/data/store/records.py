"""From rows to values: the one place that reads the columns of datums and their neighbours."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, column, func, select, table

from slipway_gateway.data.domain import Alias, ConnectedStore, Datum, OutputOf, Upload
from slipway_gateway.data.tables import AliasRow, DatumRow, StoreRow, UploadRow

EXECUTIONS = table("execution_v1", column("id"), column("counter"), schema="scheduler_pub")


def select_datums() -> Select[Any]:
    """Datums with the counter of the execution that made them, their aliases and their store, in one statement."""
    aliases = (
        select(func.array_agg(AliasRow.name))
        .where(AliasRow.datum_id == DatumRow.id)
        .correlate(DatumRow)
        .scalar_subquery()
    )
    return (
        select(DatumRow, EXECUTIONS.c.counter.label("counter"), aliases.label("aliases"), StoreRow)
        .select_from(DatumRow)
        .outerjoin(EXECUTIONS, EXECUTIONS.c.id == DatumRow.output_execution_id)
        .outerjoin(StoreRow, StoreRow.id == DatumRow.store_id)
    )


def datum_of(row: Sequence[Any]) -> Datum:
    """A datum out of a row of `select_datums`."""
    datum, counter, aliases, store = row[0], row[1], row[2], row[3]
    return Datum(
        id=datum.id,
        project_id=datum.project_id,
        name=datum.name,
        size=datum.size,
        md5=datum.md5,
        sha1=datum.sha1,
        sha256=datum.sha256,
        store_id=datum.store_id,
        key=datum.key,
        uri=None if store is None else store_of(store).uri_prefix + datum.key,
        output_execution=OutputOf(datum.output_execution_id, counter) if datum.output_execution_id else None,
        creator_id=datum.creator_id,
        tags=tuple(datum.tags),
        aliases=tuple(sorted(aliases or ())),
        properties=datum.properties,
        file_modified_at=datum.file_modified_at,
        created_at=datum.created_at,
        purged_at=datum.purged_at,
        deleted_at=datum.deleted_at,
    )


def alias_of(row: AliasRow, datum: Datum | None) -> Alias:
    """An alias and what it points at."""
    return Alias(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        datum=datum,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def upload_of(row: UploadRow) -> Upload:
    """A file on its way."""
    return Upload(
        id=row.id,
        project_id=row.project_id,
        execution_id=row.execution_id,
        attempt_id=row.attempt_id,
        creator_id=row.creator_id,
        store_id=row.store_id,
        key=row.key,
        name=row.name,
        size=row.size,
        upload_id=row.upload_id,
        part_size=row.part_size,
    )


def store_of(row: StoreRow) -> ConnectedStore:
    """A connected store, without its credentials."""
    return ConnectedStore(
        id=row.id,
        owner_id=row.owner_id,
        project_id=row.project_id,
        name=row.name,
        type=row.type,
        access_mode=row.access_mode,
        allow_read=row.allow_read,
        allow_write=row.allow_write,
        allow_uri_download=row.allow_uri_download,
        configuration=row.configuration,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
