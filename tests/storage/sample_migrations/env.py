from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, Text, UniqueConstraint

from slipway_db import env_main, metadata_for, outbox_tables
from slipway_db.outbox import consumer_tables


def models() -> MetaData:
    metadata = metadata_for("shop")
    outbox_tables(metadata)
    consumer_tables(metadata)
    Table("item", metadata, Column("id", Integer, primary_key=True), Column("name", Text), UniqueConstraint("name"))
    return metadata


env_main(context, models(), "shop")
