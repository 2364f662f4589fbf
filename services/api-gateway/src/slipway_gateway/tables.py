"""All tables of the gateway: importing this fills the metadata that migrations are compared with."""

from slipway_db import consumer_tables, outbox_tables
from slipway_gateway.code import tables as code_tables
from slipway_gateway.data import tables as data_tables
from slipway_gateway.database import GatewayBase
from slipway_gateway.identity import tables as identity_tables
from slipway_gateway.projects import tables as project_tables
from slipway_gateway.secrets import tables as secret_tables
from slipway_gateway.variables import tables as variable_tables

TABLE_MODULES = (identity_tables, project_tables, secret_tables, variable_tables, code_tables, data_tables)
"""One per feature. A feature adds its own here."""

metadata = GatewayBase.metadata
outbox_tables(metadata)
consumer_tables(metadata)
