"""Units of work as FastAPI dependencies: the commit happens before the answer is sent.

With FastAPI's default scope the code after `yield` runs when the client already has its 200, and a failing commit
would be a lie. Hence `scope="function"` everywhere.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.database import Database


@dataclass(frozen=True)
class Sessions:
    """Dependencies bound to one database."""

    database: Database
    transaction: Any
    """Default value of a parameter: `session: AsyncSession = units.transaction`."""
    read: Any

    def install(self, app: FastAPI) -> None:
        """Make `Transaction` and `Read` of routes in `app` use this database."""
        app.state.database = self.database


def sessions(database: Database) -> Sessions:
    """Return the dependencies of `database`."""

    async def transaction() -> AsyncIterator[AsyncSession]:
        async with database.transaction() as session:
            yield session

    async def read() -> AsyncIterator[AsyncSession]:
        async with database.read() as session:
            yield session

    return Sessions(
        database=database,
        transaction=Depends(transaction, scope="function"),
        read=Depends(read, scope="function"),
    )


def _database_of(request: Request) -> Database:
    database = getattr(request.app.state, "database", None)
    if not isinstance(database, Database):
        raise TypeError("No database is installed in this app: call sessions(database).install(app).")
    return database


async def _transaction(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database_of(request).transaction() as session:
        yield session


async def _read(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database_of(request).read() as session:
        yield session


Transaction = Annotated[AsyncSession, Depends(_transaction, scope="function")]
"""A unit of work of the request, committed before the answer; for routers made at module level."""
Read = Annotated[AsyncSession, Depends(_read, scope="function")]
"""A read-only unit of work of the request."""
