"""The columns that inference-builder publishes (schema `builder_pub`)."""

from sqlalchemy import BigInteger, Boolean, DateTime, Float, Integer, Text, Uuid, column, table
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_TIME = DateTime(timezone=True)
_SCHEMA = "builder_pub"

TARGET = table(
    "target_v1",
    column("id", Uuid()),
    column("name", Text()),
    column("kind", Text()),
    column("public_url", Text()),
    column("is_default", Boolean()),
    column("created_at", _TIME),
    schema=_SCHEMA,
)
DEPLOYMENT = table(
    "deployment_v1",
    column("id", Uuid()),
    column("project_id", Uuid()),
    column("owner_id", Integer()),
    column("creator_id", Integer()),
    column("name", Text()),
    column("path", Text()),
    column("target_id", Uuid()),
    column("enabled", Boolean()),
    column("public", Boolean()),
    column("created_at", _TIME),
    column("modified_at", _TIME),
    column("deleted_at", _TIME),
    schema=_SCHEMA,
)
VERSION = table(
    "version_v1",
    column("id", Uuid()),
    column("deployment_id", Uuid()),
    column("project_id", Uuid()),
    column("name", Text()),
    column("creator_id", Integer()),
    column("creator_name", Text()),
    column("commit_identifier", Text()),
    column("adhoc", Boolean()),
    column("enabled", Boolean()),
    column("own_variables", JSONB()),
    column("created_at", _TIME),
    column("modified_at", _TIME),
    column("deleted_at", _TIME),
    schema=_SCHEMA,
)
ENDPOINT = table(
    "endpoint_v1",
    column("id", Uuid()),
    column("version_id", Uuid()),
    column("deployment_id", Uuid()),
    column("name", Text()),
    column("spec", JSONB()),
    column("enabled", Boolean()),
    column("status", Text()),
    column("status_detail", Text()),
    column("replicas_ready", Integer()),
    column("replicas_wanted", Integer()),
    column("scale", JSONB()),
    column("image_id", Uuid()),
    column("created_at", _TIME),
    column("modified_at", _TIME),
    schema=_SCHEMA,
)
ALIAS = table(
    "alias_v1",
    column("id", Uuid()),
    column("deployment_id", Uuid()),
    column("name", Text()),
    column("version_id", Uuid()),
    column("canary_version_id", Uuid()),
    column("canary_percent", Integer()),
    column("modified_at", _TIME),
    schema=_SCHEMA,
)
ALIAS_MOVE = table(
    "alias_move_v1",
    column("id", Uuid()),
    column("alias_id", Uuid()),
    column("deployment_id", Uuid()),
    column("alias_name", Text()),
    column("version_id", Uuid()),
    column("previous_version_id", Uuid()),
    column("actor_id", Integer()),
    column("reason", Text()),
    column("automatic", Boolean()),
    column("at", _TIME),
    schema=_SCHEMA,
)
KEY = table(
    "key_v1",
    column("id", Uuid()),
    column("deployment_id", Uuid()),
    column("consumer", Text()),
    column("endpoints", ARRAY(Text())),
    column("expires_at", _TIME),
    column("requests_per_minute", Integer()),
    column("created_at", _TIME),
    column("last_used_at", _TIME),
    column("revoked_at", _TIME),
    column("creator_id", Integer()),
    schema=_SCHEMA,
)
IMAGE = table(
    "image_v1",
    column("id", Uuid()),
    column("status", Text()),
    column("detail", Text()),
    column("reference", Text()),
    column("digest", Text()),
    column("base", Text()),
    column("builder", Text()),
    column("started_at", _TIME),
    column("ended_at", _TIME),
    schema=_SCHEMA,
)
ENDPOINT_MINUTE = table(
    "endpoint_minute_v1",
    column("endpoint_id", Uuid()),
    column("prefix", Text()),
    column("minute", _TIME),
    column("requests", BigInteger()),
    column("server_errors", BigInteger()),
    column("client_errors", BigInteger()),
    column("latency_ms_sum", Float()),
    column("latency_ms_max", Float()),
    column("buckets", ARRAY(BigInteger())),
    schema=_SCHEMA,
)
