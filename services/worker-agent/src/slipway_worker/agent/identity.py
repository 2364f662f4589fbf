"""The identity that the scheduler issued, kept in the worker's home."""

from pathlib import Path
from typing import Final

from slipway_runtime.layout import write_private_json
from slipway_schemas.workers import WorkerRegistered

_FILE: Final = "identity.json"


def load_identity(home: Path) -> WorkerRegistered | None:
    """The identity of an earlier registration; None when there is none, or none that can be read."""
    try:
        return WorkerRegistered.model_validate_json((home / _FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def keep_identity(home: Path, identity: WorkerRegistered) -> None:
    """Keep the identity; it holds the worker's token, so it is for this user only."""
    write_private_json(home / _FILE, identity.model_dump(mode="json"))


def forget_identity(home: Path) -> None:
    """The token was refused: the next start registers again."""
    (home / _FILE).unlink(missing_ok=True)
