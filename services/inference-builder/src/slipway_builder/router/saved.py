"""The last table on disk: what a router serves by when it starts while the builder is away."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from slipway_builder.router.table import RoutingTable
from slipway_schemas.inference.routing import TableChanges

_FILE = "table.json"


def load_table(state_dir: Path) -> TableChanges | None:
    """The table of the router's last life; None when there is none that can be read."""
    try:
        return TableChanges.model_validate_json((state_dir / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def save_table(state_dir: Path, document: bytes) -> None:
    """Replace the saved table at once, or not at all."""
    new = state_dir / f"{_FILE}.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    new.replace(state_dir / _FILE)


def table_document(table: RoutingTable) -> bytes:
    """The whole table as `TableChanges` in JSON. May run in a thread."""
    routes = [
        {
            "prefix": entry.prefix,
            "deployment_id": entry.deployment,
            "endpoint": entry.endpoint,
            "backends": [asdict(one) for one in entry.backends],
            "sticky": entry.sticky,
            "public": entry.public,
            "detail": entry.detail,
        }
        for entry in list(table.routes.values())
    ]
    keys = [
        {
            "key_id": key.key_id,
            "key_hash": key.key_hash,
            "deployment_id": key.deployment,
            "consumer": "",
            "endpoints": key.endpoints,
            "expires_at": key.expires_at,
            "requests_per_minute": key.requests_per_minute,
        }
        for key in list(table.keys.values())
    ]
    return json.dumps({"revision": table.revision, "complete": True, "routes": routes, "keys": keys}).encode()
