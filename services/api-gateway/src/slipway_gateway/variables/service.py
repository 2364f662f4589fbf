"""Use cases of the variables of owners: who may see them, who may change them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.identity.domain import Account, User
from slipway_gateway.identity.service import AccountService
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.variables.domain import (
    Variable,
    VariableGroup,
    check_description,
    check_variable,
    checked_group_name,
)
from slipway_gateway.variables.store import VariableStore
from slipway_kit.errors import Forbidden, Invalid, NotFound

SECRET_SCOPE: Final = "group"  # noqa: S105 - a kind of owner, no secret


@dataclass(frozen=True)
class OwnerVariables:
    """What an owner keeps for its projects, as one user sees it."""

    owner: Account
    editable: bool
    """Whether the user may change it."""
    variables: Mapping[str, Variable]
    """Inherited by all projects of the owner."""
    groups: Sequence[VariableGroup]
    """Taken by the runs that name them."""


class VariableService:
    """Variables of owners in one unit of work. Who is not in an organization does not see that it exists."""

    def __init__(self, session: AsyncSession, accounts: AccountService, secrets: SecretService) -> None:
        self._store = VariableStore(session)
        self._accounts = accounts
        self._secrets = secrets

    async def of_owner(self, user: User, owner: str) -> OwnerVariables:
        """Everything of one owner. Raises `NotFound`."""
        account = await self._visible(user, owner)
        groups = await self._store.groups(account.id)
        return OwnerVariables(
            owner=account,
            editable=await self._accounts.administers(user, account),
            variables=next((group.variables for group in groups if group.name is None), {}),
            groups=[group for group in groups if group.name is not None],
        )

    async def group(self, user: User, owner: str, reference: str) -> VariableGroup:
        """A group by name or id. Raises `NotFound`."""
        return _named((await self.of_owner(user, owner)).groups, reference)

    async def create_group(self, user: User, owner: str, name: str, description: str = "") -> VariableGroup:
        """Make an empty group. Raises `NotFound`, `Forbidden`, `Invalid` on `name`."""
        account = await self._editable(user, owner)
        name = checked_group_name(name)
        check_description(description)
        if await self._store.add(account.id, name, description) is None:
            raise _taken(name)
        return await self.group(user, owner, name)

    async def change_group(self, user: User, owner: str, reference: str, changes: Mapping[str, Any]) -> VariableGroup:
        """Change name or description. Raises `NotFound`, `Forbidden`, `Invalid` on `name`."""
        await self._editable(user, owner)
        found = await self.group(user, owner, reference)
        values = dict(changes)
        if "name" in values:
            values["name"] = checked_group_name(values["name"])
        check_description(values.get("description", ""))
        if values and not await self._store.change(found.id, values):
            raise _taken(values["name"])
        return await self.group(user, owner, str(found.id))

    async def delete_group(self, user: User, owner: str, reference: str) -> None:
        """Remove a group; runs that were made with it keep what they got. Raises `NotFound`, `Forbidden`."""
        await self._editable(user, owner)
        await self._store.remove((await self.group(user, owner, reference)).id)

    async def put(self, user: User, owner: str, group: str | None, name: str, value: str, *, secret: bool) -> Variable:
        """Set a variable of a group, or, without one, of all projects of the owner; a secret is never shown again.

        Raises `NotFound`, `Forbidden`, `Invalid` on `name` or `value`.
        """
        account = await self._editable(user, owner)
        check_variable(name, value)
        found = await self._own(account) if group is None else await self.group(user, owner, group)
        variable = Variable(name, value, None)
        if secret:
            variable = Variable(name, None, await self._secrets.put(SECRET_SCOPE, found.id, name, value))
        await self._store.put(found.id, variable)
        await self._store.change(found.id, {})
        return variable

    async def delete(self, user: User, owner: str, group: str | None, name: str) -> None:
        """Remove a variable. Raises `NotFound`, `Forbidden`."""
        account = await self._editable(user, owner)
        found = await self._own(account) if group is None else await self.group(user, owner, group)
        if name not in found.variables or not await self._store.delete(found.id, name):
            raise NotFound(f"There is no environment variable {name!r:.300} here.")
        await self._store.change(found.id, {})

    async def _visible(self, user: User, owner: str) -> Account:
        for account in await self._accounts.owners_for(user):
            if owner.strip().lower() == account.slug:
                return account
        raise NotFound(f"There is no user or organization {owner!r:.100}, or you are not in it.")

    async def _editable(self, user: User, owner: str) -> Account:
        account = await self._visible(user, owner)
        if not await self._accounts.administers(user, account):
            raise Forbidden(
                f"Only administrators of {account.slug} may change its variables. An operator names them with: "
                f"slipway org member add --admin {account.slug} <user>"
            )
        await self._accounts.lock(account)
        return account

    async def _own(self, account: Account) -> VariableGroup:
        """The group without a name, made when it is first written to; the owner's row is locked."""
        groups = await self._store.groups(account.id)
        if not any(group.name is None for group in groups):
            await self._store.add(account.id, None, "")
            groups = await self._store.groups(account.id)
        return next(group for group in groups if group.name is None)


def _named(groups: Sequence[VariableGroup], reference: str) -> VariableGroup:
    wanted = reference.strip().lower()
    for group in groups:
        if wanted in (str(group.id), (group.name or "").lower()):
            return group
    known = ", ".join(group.name or "" for group in groups) or "none"
    raise NotFound(f"There is no environment variable group {reference!r:.150}; there are: {known}.")


def _taken(name: str) -> Invalid:
    return Invalid(f"There is a group named {name!r} already.", field="name", code="unique")
