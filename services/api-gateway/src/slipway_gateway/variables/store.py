"""SQL of the variables of owners."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.database import unique_violation
from slipway_gateway.variables.domain import Variable, VariableGroup
from slipway_gateway.variables.tables import GroupVariableRow, VariableGroupRow

NAME_CONSTRAINT = "uq_variable_groups_owner_id_name"


class VariableStore:
    """Reads and writes groups in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def groups(self, owner_id: int) -> Sequence[VariableGroup]:
        """All groups of an owner with their variables: the one without a name first, then by name."""
        rows = await self._session.scalars(
            select(VariableGroupRow)
            .where(VariableGroupRow.owner_id == owner_id)
            .order_by(VariableGroupRow.name.is_not(None), func.lower(VariableGroupRow.name))
        )
        found = list(rows)
        variables: dict[UUID, dict[str, Variable]] = {row.id: {} for row in found}
        statement = (
            select(GroupVariableRow)
            .where(GroupVariableRow.group_id.in_(variables))
            .order_by(GroupVariableRow.group_id, GroupVariableRow.name)
        )
        for one in await self._session.scalars(statement):
            variables[one.group_id][one.name] = Variable(one.name, one.value, one.secret_version)
        return [
            VariableGroup(row.id, row.owner_id, row.name, row.description, row.updated_at, variables[row.id])
            for row in found
        ]

    async def add(self, owner_id: int, name: str | None, description: str) -> UUID | None:
        """A new group's id, or None when its owner has one of that name."""
        row = VariableGroupRow(owner_id=owner_id, name=name, description=description)
        try:
            async with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError as error:
            if unique_violation(error) == NAME_CONSTRAINT:
                return None
            raise
        return row.id

    async def change(self, group_id: UUID, values: Mapping[str, Any]) -> bool:
        """Change columns of a group; False when the new name is taken."""
        statement = update(VariableGroupRow).where(VariableGroupRow.id == group_id)
        try:
            async with self._session.begin_nested():
                await self._session.execute(statement.values(**values, updated_at=func.now()))
        except IntegrityError as error:
            if unique_violation(error) == NAME_CONSTRAINT:
                return False
            raise
        return True

    async def remove(self, group_id: UUID) -> None:
        """Remove a group with its variables. Versions of its secrets stay for the runs that were made with them."""
        await self._session.execute(delete(VariableGroupRow).where(VariableGroupRow.id == group_id))

    async def put(self, group_id: UUID, variable: Variable) -> None:
        """Set a variable, replacing the one of that name."""
        values = {"value": variable.value, "secret_version": variable.secret_version}
        statement = insert(GroupVariableRow).values(group_id=group_id, name=variable.name, **values)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=[GroupVariableRow.group_id, GroupVariableRow.name], set_=values
            )
        )

    async def delete(self, group_id: UUID, name: str) -> bool:
        """Remove a variable; False when there is none of that name."""
        statement = (
            delete(GroupVariableRow)
            .where(GroupVariableRow.group_id == group_id, GroupVariableRow.name == name)
            .returning(GroupVariableRow.name)
        )
        return await self._session.scalar(statement) is not None
