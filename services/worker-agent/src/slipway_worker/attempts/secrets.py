"""Secret values of a running attempt, kept in memory (a tmpfs) where the machine can."""

import json
from collections.abc import Mapping

from slipway_runtime.layout import AttemptLayout, write_private_json

_FILE = "secrets.json"


def keep_secrets(layout: AttemptLayout, secrets: Mapping[str, str]) -> None:
    """Keep the values, so that an agent that starts again masks the same text in the log."""
    write_private_json(layout.volatile / _FILE, dict(secrets))


def kept_secrets(layout: AttemptLayout) -> dict[str, str] | None:
    """The values that were kept; None after a restart of the machine."""
    try:
        values: dict[str, str] = json.loads((layout.volatile / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    return values
