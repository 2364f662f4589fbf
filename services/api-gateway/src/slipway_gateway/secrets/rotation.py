"""Brings all secrets under a new key while the platform runs.

The new key file is in place before: from then on everything is written with it and read with it or an older one.
What is still under an older key is wrapped anew in small transactions; a rotation that was cut off is run again.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from slipway_db import Database
from slipway_gateway.data.opening import secret_place
from slipway_gateway.data.store.stores import StoreStore
from slipway_gateway.secrets.service import place_of
from slipway_gateway.secrets.store import SecretStore
from slipway_kit.key_ring import KEY_BYTES, read_key
from slipway_kit.vault import Vault

BATCH = 200


def put_new_key(current_file: Path, older_dir: Path) -> tuple[str, str]:
    """Make a new key the current one and keep the old one to read with; the ids of both, the new one first.

    The old key is in its place before the new one is, so no moment lacks a key. Raises `KeyFileError`, `OSError`.
    """
    old = read_key(current_file)
    older_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = older_dir / f"secret-key-{old.id}"
    _write(kept, current_file.read_bytes())
    fresh = current_file.with_name(f".{current_file.name}.new")
    _write(fresh, secrets.token_bytes(KEY_BYTES).hex().encode())
    fresh.replace(current_file)
    return read_key(current_file).id, old.id


async def rotate(db: Database, vault: Vault, say: Callable[[str], None]) -> int:
    """Wrap every secret anew that is not under the current key; how many were. Raises `VaultError`.

    Rows are locked batch by batch, so it may run beside the platform and beside another rotation.
    """
    key_id = vault.keys.current().id
    done = 0
    for step in (_rewrap_secrets, _rewrap_stores):
        while count := await step(db, vault, key_id):
            done += count
            say(f"{done} secrets are under key {key_id} now")
    return done


async def _rewrap_secrets(db: Database, vault: Vault, key_id: str) -> int:
    async with db.transaction() as session:
        store = SecretStore(session)
        rows = await store.under_other_keys(key_id, BATCH)
        for row in rows:
            place = place_of(row.scope, row.scope_id, row.name, row.version)
            row.envelope = vault.rewrap(row.envelope, place)
    return len(rows)


async def _rewrap_stores(db: Database, vault: Vault, key_id: str) -> int:
    async with db.transaction() as session:
        rows = await StoreStore(session).under_other_keys(key_id, BATCH)
        for row in rows:
            row.secret_envelope = vault.rewrap(row.secret_envelope, secret_place(row.id))
    return len(rows)


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
