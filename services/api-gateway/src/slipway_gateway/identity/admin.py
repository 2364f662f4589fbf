"""What an operator does with accounts, on the command line and from the all-in-one."""

from pathlib import Path

from slipway_db import Database
from slipway_gateway.database import SCHEMA
from slipway_gateway.identity.domain import IssuedToken, TokenKind, User
from slipway_gateway.identity.service import AccountService, TokenService
from slipway_kit.keys import read_pepper


class Administration:
    """Manages accounts of one installation; each call is one transaction. Close it at the end."""

    def __init__(self, database_url: str, token_pepper_file: Path) -> None:
        self._db = Database(database_url, schema=SCHEMA, pool_size=1)
        self._pepper = read_pepper(token_pepper_file)

    async def close(self) -> None:
        """Close the connection."""
        await self._db.close()

    async def add_user(self, name: str, *, password: str | None, email: str = "", is_admin: bool = False) -> User:
        """Make a user. Raises `Invalid`."""
        async with self._db.transaction() as session:
            return await AccountService(session).add_user(name, password=password, email=email, is_admin=is_admin)

    async def set_password(self, name: str, password: str) -> None:
        """Give a user a new password. Raises `NotFound`, `Invalid`."""
        async with self._db.transaction() as session:
            await AccountService(session).set_password(name, password)

    async def issue_token(self, name: str, label: str = "Made by an operator") -> IssuedToken:
        """Make an API token of a user. Raises `NotFound`."""
        async with self._db.transaction() as session:
            user = await AccountService(session).user(name)
            tokens = TokenService(session, self._pepper)
            return await tokens.issue(user.id, TokenKind.API, name=label, expires_at=None)

    async def set_external(self, name: str, external: bool) -> None:
        """Say whether a user logs in somewhere else. Raises `NotFound`."""
        async with self._db.transaction() as session:
            await AccountService(session).set_external(name, external)

    async def set_two_factor(self, name: str, required: bool) -> None:
        """Say whether a password alone opens nothing for a user. Raises `NotFound`."""
        async with self._db.transaction() as session:
            await AccountService(session).set_two_factor(name, required)

    async def set_active(self, name: str, active: bool) -> None:
        """Shut a user out, tokens and sessions included, or let the user in again. Raises `NotFound`."""
        async with self._db.transaction() as session:
            await AccountService(session).set_active(name, active)

    async def add_organization(self, name: str) -> None:
        """Make an organization. Raises `Invalid`."""
        async with self._db.transaction() as session:
            await AccountService(session).add_organization(name)

    async def add_member(self, organization: str, name: str, *, is_admin: bool = False) -> None:
        """Put a user into an organization, or change the role of one who is in it. Raises `NotFound`."""
        async with self._db.transaction() as session:
            await AccountService(session).add_member(organization, name, is_admin=is_admin)

    async def remove_member(self, organization: str, name: str) -> None:
        """Take a user out of an organization. Raises `NotFound`."""
        async with self._db.transaction() as session:
            await AccountService(session).remove_member(organization, name)
