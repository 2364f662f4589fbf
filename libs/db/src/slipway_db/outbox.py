"""The outbox: an event is a row written with the change that it tells of.

`emit` writes the row; the relay of `slipway_events` gives it the next position. Positions are handed out under a row
lock, after the writers have committed, so a reader who has seen position n never meets a smaller one later,
and they have no gaps. Between two transactions that the relay finds together, the order in which their rows
were inserted counts; events of one key stay in commit order because their writers hold the same row.
"""

import json
from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.migrations import MigrationOperations, grant_view
from slipway_db.tables import metadata_for
from slipway_kit.ids import new_id
from slipway_schemas.events import Event

_EMIT = text(
    "WITH written AS (INSERT INTO outbox (id, name, key, actor, payload)"
    " SELECT e.id, e.name, e.key, :actor, e.payload FROM unnest(CAST(:ids AS uuid[]), CAST(:names AS text[]),"
    " CAST(:keys AS text[]), CAST(:payloads AS jsonb[])) WITH ORDINALITY AS e (id, name, key, payload, n) ORDER BY e.n)"
    " SELECT pg_notify(current_schema() || '_outbox', '')"
)


def outbox_channel(schema: str) -> str:
    """Return the NOTIFY channel that rings when `schema` has written an event."""
    return f"{schema}_outbox"


async def emit(session: AsyncSession, *events: Event, actor: int | None) -> None:
    """Write events into the caller's transaction, in this order, with one statement.

    `actor` is the account id of the user who caused them, None for the platform itself.
    """
    if not events:
        return
    await session.execute(
        _EMIT,
        {
            "actor": actor,
            "ids": [new_id() for _ in events],
            "names": [event.name for event in events],
            "keys": [event.key() for event in events],
            "payloads": [json.dumps(event.model_dump(mode="json")) for event in events],
        },
    )


def outbox_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add `outbox` and `outbox_head` to the metadata of a publishing schema."""
    outbox = Table(
        "outbox",
        metadata,
        Column("id", Uuid(), primary_key=True),
        Column("seq", BigInteger(), Identity(always=True), nullable=False),
        Column("position", BigInteger(), nullable=True),
        Column("name", Text(), nullable=False),
        Column("key", Text(), nullable=False),
        Column("actor", Integer(), nullable=True),
        Column("occurred_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("payload", JSONB(), nullable=False),
    )
    Index("uq_outbox_position", outbox.c.position, unique=True)
    Index("ix_outbox_unplaced", outbox.c.seq, postgresql_where=outbox.c.position.is_(None))
    head = Table(
        "outbox_head",
        metadata,
        Column("id", SmallInteger(), primary_key=True, autoincrement=False),
        Column("position", BigInteger(), nullable=False),
        CheckConstraint("id = 1", name="single"),
    )
    return outbox, head


def consumer_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add `cursors` and `dead_letter` to the metadata of a consuming schema."""
    cursors = Table(
        "cursors",
        metadata,
        Column("consumer", Text(), primary_key=True),
        Column("publisher", Text(), nullable=False),
        Column("position", BigInteger(), nullable=False),
    )
    dead_letter = Table(
        "dead_letter",
        metadata,
        Column("consumer", Text(), primary_key=True),
        Column("position", BigInteger(), primary_key=True, autoincrement=False),
        Column("key", Text(), nullable=False),
        Column("envelope", JSONB(), nullable=False),
        Column("tries", Integer(), nullable=False),
        Column("error", Text(), nullable=True),
        Column("next_try_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("parked_at", DateTime(timezone=True), nullable=True),
    )
    Index(
        "ix_dead_letter_waiting",
        dead_letter.c.consumer,
        dead_letter.c.key,
        dead_letter.c.position,
        postgresql_where=dead_letter.c.parked_at.is_(None),
    )
    return cursors, dead_letter


def create_outbox(op: MigrationOperations, schema: str, *, readers: Sequence[str]) -> None:
    """In a migration of a publisher: make its outbox and the view `event_v1`, readable by `readers`."""
    for table in outbox_tables(metadata_for(schema)):
        table.create(op.get_bind())
    op.execute("INSERT INTO outbox_head (id, position) VALUES (1, 0)")
    view = f"{schema}_pub.event_v1"
    op.execute(
        f"CREATE VIEW {view} AS SELECT position, id, name, key, actor, occurred_at, payload"  # noqa: S608
        " FROM outbox WHERE position IS NOT NULL"
    )
    grant_view(op, view, to=readers)


def create_consumer(op: MigrationOperations, schema: str, *, publishers: Sequence[str]) -> None:
    """In a migration of a consumer: make its cursors and dead letters, and show the cursors to `publishers`.

    A publisher deletes old events only when it sees that every consumer has passed them.
    """
    for table in consumer_tables(metadata_for(schema)):
        table.create(op.get_bind())
    view = f"{schema}_pub.cursor_v1"
    op.execute(f"CREATE VIEW {view} AS SELECT consumer, publisher, position FROM cursors")  # noqa: S608
    grant_view(op, view, to=publishers)
