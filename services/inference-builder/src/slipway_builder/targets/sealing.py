"""Settings of targets as they are kept: encrypted, and bound to their target."""

import json
from typing import Any
from uuid import UUID

from slipway_kit.vault import Vault


def seal(vault: Vault, target_id: UUID, settings: dict[str, Any]) -> bytes:
    """What is written into the row."""
    return vault.encrypt(json.dumps(settings, sort_keys=True), _place(target_id))


def unseal(vault: Vault, target_id: UUID, sealed: bytes) -> dict[str, Any]:
    """The settings. Raises `VaultError`."""
    found: dict[str, Any] = json.loads(vault.decrypt(sealed, _place(target_id)))
    return found


def _place(target_id: UUID) -> tuple[str, ...]:
    return ("builder", "target", str(target_id))
