"""Roles, schemas and grants: what has to exist before the first migration, and needs an administrator."""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from slipway_db.database import async_url, engine_for
from slipway_db.specs import MigrationSpec, role_of
from slipway_kit.errors import Forbidden

ROLE_SETTINGS = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
_SCRAM_ITERATIONS = 4096  # Postgres' own default
_INSUFFICIENT_PRIVILEGE = "42501"


class BootstrapRefused(Forbidden):
    """The URL's role may not create roles; `sql` holds what an administrator can run instead."""

    code = "bootstrap_refused"

    def __init__(self, sql: str) -> None:
        super().__init__(
            "This database role may not create roles and schemas. "
            "Run the printed SQL as an administrator, then start again."
        )
        self.sql = sql


async def bootstrap(
    admin_url: str, specs: Sequence[MigrationSpec], passwords: Mapping[str, str], *, sql_only: bool = False
) -> str:
    """Create the role and schemas of every service; safe to run again. Returns the SQL.

    `passwords` maps service names to passwords. The SQL holds SCRAM verifiers, never passwords, so it may be
    printed and does not leak through the server's log. Raises `BootstrapRefused` when the role lacks rights.
    """
    database = async_url(admin_url).database or "postgres"
    statements = _statements(database, specs, passwords)
    sql = ";\n".join(statements) + ";\n"
    if sql_only:
        return sql
    engine = engine_for(admin_url, application="slipway-bootstrap")
    try:
        async with engine.begin() as connection:
            # Roles are shared by all databases of a server: two bootstraps at once would collide on them.
            await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('slipway bootstrap'))"))
            for statement in statements:
                await connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise BootstrapRefused(sql) from error
        raise
    finally:
        await engine.dispose()
    return sql


def _statements(database: str, specs: Sequence[MigrationSpec], passwords: Mapping[str, str]) -> list[str]:
    roles = {spec.service: role_of(spec.service) for spec in specs}
    statements: list[str] = []
    for spec in specs:
        role = roles[spec.service]
        statements += [
            f"DO $$ BEGIN CREATE ROLE {_name(role)}; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"ALTER ROLE {_name(role)} LOGIN PASSWORD {_literal(scram_verifier(passwords[spec.service]))}",
            *(f"ALTER ROLE {_name(role)} SET {key} = '{value}'" for key, value in ROLE_SETTINGS.items()),
            f"GRANT CONNECT ON DATABASE {_name(database)} TO {_name(role)}",
            _join(role),
        ]
        for schema in (spec.schema, spec.published_schema):
            statements += [
                f"CREATE SCHEMA IF NOT EXISTS {_name(schema)} AUTHORIZATION {_name(role)}",
                f"REVOKE ALL ON SCHEMA {_name(schema)} FROM PUBLIC",
            ]
    for spec in specs:
        # Usage lets others name the views; reading one still needs a grant by name.
        readers = ", ".join(_name(role) for role in roles.values())
        statements.append(f"GRANT USAGE ON SCHEMA {_name(spec.published_schema)} TO {readers}")
    return statements


def scram_verifier(password: str) -> str:
    """Return the SCRAM-SHA-256 verifier that Postgres stores for `password` (RFC 5803 form)."""
    if not password.isascii() or not password:
        raise ValueError("Database passwords must be non-empty ASCII.")
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"


def _join(role: str) -> str:
    # Managed servers have no superuser: there one must be a member of a role to hand over a schema to it.
    return (
        "DO $$ BEGIN IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN "  # noqa: S608
        f"GRANT {_name(role)} TO CURRENT_USER; END IF; END $$"
    )


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
