import asyncio
import pathlib
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from slipway_db import (
    Database,
    MigrationSpec,
    ModelDrift,
    SchemaMismatch,
    Transaction,
    bootstrap,
    check_models,
    check_schema,
    migrate,
    published_columns,
    release,
    sessions,
    unique_violation,
)
from slipway_kit.errors import Unavailable
from slipway_kit.unit_of_work import transaction_open

SCRIPTS = str(pathlib.Path(__file__).parent / "sample_migrations")
SHOP = MigrationSpec("shop", "shop", SCRIPTS, views=("event_v1", "item_v1", "cursor_v1"))
MILL = MigrationSpec("mill", "mill", SCRIPTS)
PASSWORDS = {"shop": "shop's secret", "mill": "mill-secret"}


def url_for(admin_url: str, service: str) -> str:
    url = make_url(admin_url).set(username=f"slipway_{service}", password=PASSWORDS[service])
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def shop_url(database_url: str) -> str:
    await bootstrap(database_url, [SHOP, MILL], PASSWORDS)
    url = url_for(database_url, "shop")
    await migrate(lambda _: url, [SHOP])
    return url


@pytest.fixture
async def shop(shop_url: str) -> AsyncIterator[Database]:
    db = Database(shop_url, schema="shop", pool_size=4)
    yield db
    await db.close()


async def count(db: Database) -> int:
    async with db.read() as session:
        return await session.scalar(text("SELECT count(*) FROM item")) or 0


async def test_transaction_commits_and_rolls_back(shop: Database) -> None:
    async with shop.transaction() as session:
        assert transaction_open.get()
        await session.execute(text("INSERT INTO item (id, name) VALUES (1, 'a')"))
    assert not transaction_open.get()
    with pytest.raises(DBAPIError):  # noqa: PT012
        async with shop.transaction() as session:
            await session.execute(text("INSERT INTO item (id, name) VALUES (2, 'b')"))
            await session.execute(text("SELECT 1 / 0"))
    assert not transaction_open.get()
    assert await count(shop) == 1


async def test_reads_cannot_write_and_units_do_not_nest(shop: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        async with shop.read() as session:
            await session.execute(text("INSERT INTO item (id, name) VALUES (1, 'a')"))
    async with shop.transaction():
        with pytest.raises(RuntimeError, match="already open"):
            async with shop.read():
                pass
        assert transaction_open.get()
    async with shop.transaction() as session:  # the pool's connection is writable again
        await session.execute(text("INSERT INTO item (id, name) VALUES (1, 'a')"))
    assert await count(shop) == 1


async def test_statements_commit_one_by_one(shop: Database) -> None:
    with pytest.raises(DBAPIError):  # noqa: PT012
        async with shop.statements() as session:
            assert transaction_open.get()
            await session.execute(text("INSERT INTO item (id, name) VALUES (1, 'a')"))
            await session.execute(text("SELECT 1 / 0"))
    assert await count(shop) == 1
    with pytest.raises(RuntimeError, match="undone"):  # noqa: PT012 - the pool's connections are as before
        async with shop.transaction() as session:
            await session.execute(text("INSERT INTO item (id, name) VALUES (2, 'b')"))
            raise RuntimeError("undone")
    assert await count(shop) == 1


async def test_release_allows_a_call_before_the_block_ends(shop: Database) -> None:
    async with shop.read() as session:
        await session.execute(text("SELECT 1"))
        await release(session)
        assert not transaction_open.get()
        with pytest.raises(InvalidRequestError):
            await session.execute(text("SELECT 1"))


async def test_unique_violation_names_the_constraint(shop: Database) -> None:
    async def insert(values: str) -> IntegrityError:
        with pytest.raises(IntegrityError) as caught:
            async with shop.transaction() as session:
                await session.execute(text(f"INSERT INTO item (id, name) VALUES {values}"))
        return caught.value

    assert unique_violation(await insert("(1, 'a'), (2, 'a')")) == "uq_item_name"
    assert unique_violation(await insert("(NULL, 'a')")) is None


async def test_connections_closed_by_the_server_are_replaced(shop: Database, database_url: str) -> None:
    assert await count(shop) == 0
    admin = await asyncpg.connect(database_url)
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'slipway_shop'")
    await admin.close()
    await asyncio.sleep(0.1)
    assert await count(shop) == 0


async def test_request_commits_before_the_answer(shop: Database) -> None:
    app = FastAPI()
    sessions(shop).install(app)

    @app.post("/items/{item}")
    async def create(item: int, session: Transaction) -> int:
        await session.execute(text("INSERT INTO item (id, name) VALUES (:id, 'x')"), {"id": item})
        # Checked at commit only: a commit after the answer would let a 200 out.
        await session.execute(text("ALTER TABLE item ADD CONSTRAINT later UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"))
        return item

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/items/1")).status_code == 200
        assert await count(shop) == 1
        assert (await client.post("/items/2")).status_code == 500
    assert await count(shop) == 1


async def test_bootstrap_is_idempotent_and_walls_off_schemas(shop: Database, database_url: str) -> None:
    sql = await bootstrap(database_url, [SHOP, MILL], PASSWORDS)
    assert "mill-secret" not in sql
    assert sql.splitlines()[0] in await bootstrap(database_url, [SHOP, MILL], PASSWORDS, sql_only=True)
    mill = Database(url_for(database_url, "mill"), schema="mill", pool_size=2)
    try:
        async with mill.read() as session:
            assert await session.scalar(text("SHOW statement_timeout")) == "30s"
            assert await session.scalar(text("SHOW search_path")) == "mill"
            assert (await session.execute(text("SELECT * FROM shop_pub.item_v1"))).all() == []
        for refused in (
            "SELECT * FROM shop.item",
            "CREATE TABLE shop_pub.x ()",
            "INSERT INTO shop_pub.item_v1 VALUES (1)",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with mill.transaction() as session:
                    await session.execute(text(refused))
    finally:
        await mill.close()


async def test_schema_check_tells_older_from_newer(shop: Database, shop_url: str) -> None:
    await check_schema(shop, SHOP)
    async with shop.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="newer"):
        await check_schema(shop, SHOP)
    async with shop.transaction() as session:
        await session.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(SchemaMismatch, match="older"):
        await check_schema(shop, SHOP)


async def test_models_match_migrations(shop: Database, shop_url: str) -> None:
    await check_models(shop_url, SHOP)
    assert (await published_columns(shop_url, SHOP))["item_v1"] == [("id", "integer"), ("name", "text")]
    async with shop.transaction() as session:
        await session.execute(text("ALTER TABLE item ADD COLUMN extra int"))
    with pytest.raises(ModelDrift, match="extra"):
        await check_models(shop_url, SHOP)


async def test_migrations_at_once_take_turns(database_url: str) -> None:
    await bootstrap(database_url, [SHOP, MILL], PASSWORDS)
    url = url_for(database_url, "shop")
    await asyncio.gather(*(migrate(lambda _: url, [SHOP]) for _ in range(3)))
    await check_models(url, SHOP)


async def test_a_server_that_is_away_is_unavailable(shop: Database, shop_url: str, tmp_path: pathlib.Path) -> None:
    """Callers answer 503 and try again; the pool replaces what was lost."""
    with pytest.raises(Unavailable, match="database does not answer"):
        async with shop.transaction() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await count(shop) == 0
    nobody = make_url(shop_url).update_query_dict({"host": str(tmp_path)})
    away = Database(nobody.render_as_string(hide_password=False), schema="shop", pool_size=1)
    with pytest.raises(Unavailable, match="database does not answer"):
        await count(away)
    await away.close()
