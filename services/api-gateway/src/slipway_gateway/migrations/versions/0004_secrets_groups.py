"""Variables of owners, groups of them, and who may change them."""

import sqlalchemy as sa
from alembic import op

revision = "0004_secrets_groups"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, the role, and the scope of their secrets."""
    op.add_column("memberships", sa.Column("is_admin", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "variable_groups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_variable_groups_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_variable_groups")),
    )
    op.create_index(
        "uq_variable_groups_owner_id_name", "variable_groups", ["owner_id", sa.text("lower(name)")], unique=True
    )
    op.create_index(
        "uq_variable_groups_owner_id",
        "variable_groups",
        ["owner_id"],
        unique=True,
        postgresql_where=sa.text("name IS NULL"),
    )
    op.create_table(
        "group_variables",
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("secret_version", sa.Integer(), nullable=True),
        sa.CheckConstraint("(value IS NULL) <> (secret_version IS NULL)", name=op.f("ck_group_variables_one_value")),
        sa.ForeignKeyConstraint(
            ["group_id"], ["variable_groups.id"], name=op.f("fk_group_variables_group_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "name", name=op.f("pk_group_variables")),
    )
    op.drop_constraint(op.f("ck_secrets_scope"), "secrets")
    op.create_check_constraint(
        op.f("ck_secrets_scope"),
        "secrets",
        "scope IN ('project', 'execution', 'organization', 'repository', 'group')",
    )
