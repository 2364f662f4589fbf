"""The engine of one service and its units of work."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from slipway_kit.errors import Invalid, Unavailable
from slipway_kit.unit_of_work import transaction_open

CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 35.0  # above the role's statement_timeout (30 s), so that Postgres gives up first

_TEXT_REFUSED = {"22021", "22P05"}
"""SQLSTATEs of a NUL in a text and in JSON."""
_SERVER_AWAY = {"57P01", "57P02", "57P03"}
"""SQLSTATEs of a server that stops, has crashed, or starts."""
_DOES_NOT_FIT = {"22000", "22003"}
"""SQLSTATEs of a value that the driver cannot encode, and of a number that does not fit its column."""


def async_url(url: str) -> URL:
    """Return `url` with the asyncpg driver; TCP and `?host=/socket/dir` forms are accepted."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"A database URL must start with postgresql://, this one starts with {parsed.drivername}://.")
    return parsed.set(drivername="postgresql+asyncpg")


def url_for_role(url: str, role: str, password: str) -> str:
    """Return the same database's URL for another role."""
    return make_url(url).set(username=role, password=password).render_as_string(hide_password=False)


def engine_for(
    url: str,
    *,
    schema: str | None = None,
    application: str = "slipway",
    pool_size: int | None = None,
    command_timeout: float = COMMAND_TIMEOUT_SECONDS,
) -> AsyncEngine:
    """Return an engine whose connections see `schema` alone; without `pool_size` nothing is pooled."""
    settings = {"application_name": application, "timezone": "UTC", "jit": "off"}
    if schema is not None:
        settings["search_path"] = schema
    pool: dict[str, Any] = (
        {"poolclass": NullPool}
        if pool_size is None
        else {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    engine = create_async_engine(
        async_url(url),
        connect_args={
            "server_settings": settings,
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": command_timeout,
            "async_creator_fn": _connect,
        },
        **pool,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed_connection)
    return engine


async def _connect(*args: Any, **kwargs: Any) -> Any:
    try:
        return await asyncpg.connect(*args, **kwargs)
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError) as error:
        raise _unavailable(error) from error


def _unavailable(error: BaseException | None) -> Unavailable:
    return Unavailable(f"The database does not answer ({type(error).__name__}). Try again in a moment.")


def _refuse_closed_connection(_dbapi: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
    # After a restart of Postgres the sockets are known to be closed: replacing them here costs nothing, whereas
    # a ping before each use (pool_pre_ping) costs a round trip per unit of work.
    driver = entry.driver_connection
    if driver is not None and driver.is_closed():
        raise DisconnectionError("the server closed this connection")


class Database:
    """One service's access to its own schema.

    Units of work never nest, because two connections held by one task can starve the pool, and no
    network call may be made inside one: `kit.http` refuses while `transaction_open` is set.
    """

    def __init__(self, url: str, *, schema: str, pool_size: int = 8) -> None:
        self.url = url
        self.schema = schema
        self.engine = engine_for(url, schema=schema, application=f"slipway-{schema}", pool_size=pool_size)
        self._session = async_sessionmaker(self.engine, expire_on_commit=False, close_resets_only=False)
        self._single = async_sessionmaker(
            self.engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False, close_resets_only=False
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work that commits on exit and rolls back when the block raises.

        Deadlocks and serialization failures are raised as they are; nothing is tried again in secret.
        """
        with _marked_open(), _failures_told():
            async with self._session() as session, session.begin():
                yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work that Postgres holds to reading; it is rolled back on exit."""
        with _marked_open(), _failures_told():
            async with self._session() as session:
                await session.connection(execution_options={"postgresql_readonly": True})
                yield session

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work in which each statement is a transaction of its own.

        One statement takes one round trip instead of three: for what is asked often and needs no more than one.
        """
        with _marked_open(), _failures_told():
            async with self._single() as session:
                yield session

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()


@contextmanager
def _failures_told() -> Iterator[None]:
    """Say what callers can act on.

    The refusal of a value that no column can keep, by Postgres or by its driver, is `Invalid`; a server that is away is
    `Unavailable`.
    """
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _TEXT_REFUSED:
            raise Invalid("Texts may not hold NUL characters.", code="null_characters_not_allowed") from error
        cause = getattr(error.orig, "__cause__", None)
        if state in _DOES_NOT_FIT or isinstance(cause, UnicodeError):
            raise Invalid("A number is too large, or a text is not made of whole characters.") from error
        if error.connection_invalidated or state in _SERVER_AWAY:
            raise _unavailable(error.orig) from error
        raise


class _marked_open:  # noqa: N801 - reads as a function where it is used
    """Mark the task as inside a unit of work; a plain value restore works across contexts, a token does not."""

    def __enter__(self) -> None:
        if transaction_open.get():
            raise RuntimeError(
                "A unit of work is already open in this task. Pass its session on instead of opening a second one."
            )
        transaction_open.set(True)

    def __exit__(self, *_: object) -> None:
        transaction_open.set(False)


async def release(session: AsyncSession) -> None:
    """End a read early, before its owner leaves the block, so that a neighbour may be called.

    The session cannot be used afterwards.
    """
    await session.close()
    transaction_open.set(False)


def unique_violation(error: IntegrityError) -> str | None:
    """Return the name of the unique constraint that refused a row, or None when it was another constraint."""
    if getattr(error.orig, "sqlstate", None) != "23505":
        return None
    name = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
    return str(name) if name else None
