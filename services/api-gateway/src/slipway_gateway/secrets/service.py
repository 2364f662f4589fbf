"""Use cases of secrets: put, read a version. Values leave this module only for the worker that needs them."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.secrets.store import SecretStore
from slipway_kit.errors import NotFound
from slipway_kit.vault import Vault


class SecretService:
    """Secrets in one unit of work."""

    def __init__(self, session: AsyncSession, vault: Vault) -> None:
        self._store = SecretStore(session)
        self._vault = vault

    async def put(self, scope: str, scope_id: UUID, name: str, value: str) -> int:
        """Keep a new version of a secret; returns its number. The caller holds a lock on the scope's row."""
        version = await self._store.newest_version(scope, scope_id, name) + 1
        envelope = self._vault.encrypt(value, place_of(scope, scope_id, name, version))
        await self._store.add(scope, scope_id, name, version, envelope)
        return version

    async def value(self, scope: str, scope_id: UUID, name: str, version: int) -> str:
        """One version in the clear. Raises `NotFound`, `VaultError`."""
        envelope = await self._store.envelope(scope, scope_id, name, version)
        if envelope is None:
            raise NotFound(f"Version {version} of the secret {name} does not exist any more.")
        return self._vault.decrypt(envelope, place_of(scope, scope_id, name, version))


def place_of(scope: str, scope_id: UUID, name: str, version: int) -> tuple[str, ...]:
    """Where a version of a secret belongs, for the vault."""
    return (scope, str(scope_id), name, str(version))
