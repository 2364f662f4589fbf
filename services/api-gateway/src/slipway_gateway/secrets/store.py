"""SQL of secrets."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.secrets.tables import SecretRow


class SecretStore:
    """Reads and writes envelopes in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def newest_version(self, scope: str, scope_id: UUID, name: str) -> int:
        """Number of the newest version; 0 when there is none."""
        statement = select(func.max(SecretRow.version)).where(
            SecretRow.scope == scope, SecretRow.scope_id == scope_id, SecretRow.name == name
        )
        return await self._session.scalar(statement) or 0

    async def add(self, scope: str, scope_id: UUID, name: str, version: int, envelope: bytes) -> None:
        """Keep one version."""
        self._session.add(SecretRow(scope=scope, scope_id=scope_id, name=name, version=version, envelope=envelope))
        await self._session.flush()

    async def envelope(self, scope: str, scope_id: UUID, name: str, version: int) -> bytes | None:
        """One version, encrypted."""
        row = await self._session.get(SecretRow, (scope, scope_id, name, version))
        return None if row is None else row.envelope
