"""The migration runner: Alembic per owner, one owner after the other, under one lock.

A service's `migrations/env.py` is three lines:

    from alembic import context
    from slipway_db.migrations import env_main
    env_main(context, metadata, "scheduler")
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text

from slipway_db.database import Database, engine_for
from slipway_db.specs import MigrationSpec, role_of
from slipway_kit.errors import SlipwayError, Unavailable

VERSION_TABLE = "alembic_version"
MIGRATION_TIMEOUT_SECONDS = 1800.0
LOCK_WAIT_SECONDS = 120.0
_LOCK_KEY = 0x5117A1  # any constant: the lock's meaning is "migrations of Slipway"


class MigrationOperations(Protocol):
    """What helpers of migrations need of Alembic's `op`, module or object."""

    def execute(self, sqltext: str) -> None:
        """Run a statement."""

    def get_bind(self) -> Connection:
        """Return the connection of the migration."""


class SchemaMismatch(Unavailable):
    """The schema in the database is not the one that this build was made for."""

    code = "schema_mismatch"


class ModelDrift(SlipwayError):
    """Models and migrations disagree."""

    code = "model_drift"


def env_main(context: Any, metadata: MetaData, schema: str) -> None:
    """Run the migrations that Alembic asked for on the connection that the runner handed over."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("Migrations run through `slipway db migrate`, which opens the connection.")
    current = connection.scalar(text("SELECT current_schema()"))
    if current != schema:
        raise RuntimeError(f"These migrations belong to schema {schema!r}, the connection is in {current!r}.")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate(url_of: Callable[[str], str], specs: Sequence[MigrationSpec]) -> None:
    """Bring every schema to its newest revision; `url_of(service)` gives the URL of the owner's role.

    Raises `Unavailable` when another migration holds the lock for over two minutes.
    """
    if specs:
        # Alembic is synchronous and imports the scripts: in a thread it does not hold up this loop.
        await asyncio.to_thread(lambda: asyncio.run(_migrate(url_of, specs)))


async def _migrate(url_of: Callable[[str], str], specs: Sequence[MigrationSpec]) -> None:
    async with _migration_lock(url_of(specs[0].service)):
        for spec in specs:
            await _run(url_of(spec.service), spec, lambda config: command.upgrade(config, "head"))


@asynccontextmanager
async def _migration_lock(url: str) -> AsyncIterator[None]:
    engine = engine_for(url, application="slipway-migrate")
    try:
        async with engine.connect() as opened:
            connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
            try:
                async with asyncio.timeout(LOCK_WAIT_SECONDS):
                    take = text("SELECT pg_try_advisory_lock(:key)")
                    while not await connection.scalar(take, {"key": _LOCK_KEY}):  # noqa: ASYNC110 - another process holds it
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise Unavailable(
                    "Another migration has been running on this database for over two minutes. "
                    "Wait for it, or end it, and start again."
                ) from None
            yield
    finally:
        await engine.dispose()


async def _run(url: str, spec: MigrationSpec, action: Callable[[Config], object]) -> None:
    engine = engine_for(
        url,
        schema=spec.schema,
        application="slipway-migrate",
        command_timeout=MIGRATION_TIMEOUT_SECONDS,
    )

    def run(connection: Connection) -> None:
        config = _config(spec)
        config.attributes["connection"] = connection
        action(config)

    try:
        async with engine.connect() as connection:
            # A migration may work long, but must not queue others behind a lock that it waits for.
            await connection.exec_driver_sql("SET statement_timeout = 0")
            await connection.exec_driver_sql("SET lock_timeout = '2s'")
            await connection.commit()
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()


def _config(spec: MigrationSpec) -> Config:
    config = Config()
    config.set_main_option("script_location", spec.script_location)
    config.set_main_option("path_separator", "os")
    return config


def head_revision(spec: MigrationSpec) -> str | None:
    """Return the newest revision that this build knows."""
    return ScriptDirectory.from_config(_config(spec)).get_current_head()


async def check_schema(db: Database, spec: MigrationSpec) -> None:
    """Raise `SchemaMismatch` unless the schema is at exactly this build's revision."""
    scripts = await asyncio.to_thread(ScriptDirectory.from_config, _config(spec))
    head = scripts.get_current_head()
    async with db.engine.connect() as connection:
        current = await connection.run_sync(_current_revision)
    if current == head:
        return
    known = current is None or await asyncio.to_thread(_knows, scripts, current)
    what = "older" if known else "newer"
    advice = "run `slipway db migrate`" if known else "install a newer build of this service"
    raise SchemaMismatch(
        f"Schema {spec.schema!r} is at revision {current}, {what} than {head}, which this build needs: {advice}.",
        details={"schema": spec.schema, "current": current, "wanted": head, "state": what},
    )


def _current_revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass(:table)"), {"table": VERSION_TABLE}) is None:
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return revision


def _knows(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False


async def check_models(url: str, spec: MigrationSpec) -> None:
    """Raise `ModelDrift` when the models differ from what the migrations build, or a listed view is missing.

    For tests: `url` is the owner's, the schema is migrated.
    """
    await asyncio.to_thread(lambda: asyncio.run(_run(url, spec, _check)))
    missing = set(spec.views) - set(await published_columns(url, spec))
    if missing:
        raise ModelDrift(f"No migration creates these views of {spec.published_schema}: {sorted(missing)}.")


def _check(config: Config) -> None:
    try:
        command.check(config)
    except CommandError as error:
        raise ModelDrift(str(error)) from error


async def published_columns(url: str, spec: MigrationSpec) -> dict[str, list[tuple[str, str]]]:
    """Return `{view: [(column, type)]}` of all published views, for snapshot tests."""
    engine = engine_for(url, schema=spec.schema)
    try:
        async with engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
                    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
                    " WHERE n.nspname = :schema AND c.relkind = 'v' ORDER BY c.relname, a.attnum"
                ),
                {"schema": spec.published_schema},
            )
            columns: dict[str, list[tuple[str, str]]] = {}
            for view, column, kind in rows:
                columns.setdefault(view, []).append((column, kind))
            return columns
    finally:
        await engine.dispose()


def grant_view(op: MigrationOperations, view: str, to: Sequence[str]) -> None:
    """Let the services in `to` read `view` (with its schema, e.g. `scheduler_pub.execution_v1`).

    A reader whose role does not exist (a service that is not installed) is passed over.
    """
    for service in to:
        role = role_of(service)
        op.execute(
            f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
            f'GRANT SELECT ON {view} TO "{role}"; END IF; END $$'
        )


__all__ = [
    "MigrationOperations",
    "ModelDrift",
    "SchemaMismatch",
    "check_models",
    "check_schema",
    "env_main",
    "grant_view",
    "head_revision",
    "migrate",
    "published_columns",
]
