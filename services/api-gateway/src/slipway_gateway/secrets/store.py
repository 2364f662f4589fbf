"""SQL of secrets."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from slipway_gateway.secrets.tables import SecretRow
from slipway_kit.key_ring import KEY_ID_LENGTH
from slipway_kit.vault import HEADER_BYTES


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

    async def under_other_keys(self, key_id: str, limit: int) -> Sequence[SecretRow]:
        """Some rows whose envelope names another key, locked until the commit."""
        statement = select(SecretRow).where(not_under(SecretRow.envelope, key_id))
        return (await self._session.scalars(statement.limit(limit).with_for_update())).all()

    async def envelope(self, scope: str, scope_id: UUID, name: str, version: int) -> bytes | None:
        """One version, encrypted."""
        row = await self._session.get(SecretRow, (scope, scope_id, name, version))
        return None if row is None else row.envelope


def not_under(envelope: InstrumentedAttribute[bytes], key_id: str) -> ColumnElement[bool]:
    """Whether an envelope was wrapped under another key than this one."""
    return func.substring(envelope, HEADER_BYTES - KEY_ID_LENGTH + 1, KEY_ID_LENGTH) != key_id.encode()
