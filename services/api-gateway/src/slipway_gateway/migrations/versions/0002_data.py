"""Stores, uploads, datums, aliases, and the cursors of the events that the gateway follows."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

from slipway_db import create_consumer

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "stores",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("access_mode", sa.String(length=32), nullable=False),
        sa.Column("allow_read", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("allow_write", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("allow_uri_download", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("configuration", postgresql.JSONB(), nullable=False),
        sa.Column("secret_envelope", sa.LargeBinary(), nullable=False),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        _time("deleted_at"),
        sa.CheckConstraint(
            "access_mode IN ('public', 'single_project', 'teams', 'owner_organization')",
            name=op.f("ck_stores_access_mode"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_stores_owner_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_stores_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stores")),
    )
    op.create_index("ix_stores_owner_id", "stores", ["owner_id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("creator_id", sa.Integer(), nullable=True),
        sa.Column("store_id", sa.Uuid(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column("part_size", sa.BigInteger(), nullable=True),
        _time("abort_at"),
        _time("created_at", nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_uploads_project_id")),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], name=op.f("fk_uploads_store_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_attempt_id", "uploads", ["attempt_id", "name"])
    op.create_index("ix_uploads_execution_id", "uploads", ["execution_id"])
    op.create_index("ix_uploads_created_at", "uploads", ["created_at"])
    op.create_table(
        "datums",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("sha1", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("store_id", sa.Uuid(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("output_execution_id", sa.Uuid(), nullable=True),
        sa.Column("output_attempt_id", sa.Uuid(), nullable=True),
        sa.Column("creator_id", sa.Integer(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("properties", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        _time("file_modified_at"),
        _time("created_at", nullable=False),
        _time("purged_at"),
        _time("deleted_at"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_datums_project_id")),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], name=op.f("fk_datums_store_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datums")),
    )
    op.create_index("ix_datums_project_id", "datums", ["project_id", "created_at", "id"])
    op.create_index("ix_datums_output_execution_id", "datums", ["output_execution_id", "id"])
    op.create_index("ix_datums_output_attempt_id", "datums", ["output_attempt_id", "name"])
    op.create_index("ix_datums_tags", "datums", ["tags"], postgresql_using="gin")
    op.create_table(
        "datum_aliases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("datum_id", sa.Uuid(), nullable=True),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_datum_aliases_project_id")),
        sa.ForeignKeyConstraint(["datum_id"], ["datums.id"], name=op.f("fk_datum_aliases_datum_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datum_aliases")),
    )
    op.create_index(
        "uq_datum_aliases_project_id_name", "datum_aliases", ["project_id", sa.text("lower(name)")], unique=True
    )
    op.create_index("ix_datum_aliases_datum_id", "datum_aliases", ["datum_id"])
    create_consumer(Operations(op.get_context()), "gateway", publishers=["scheduler"])
