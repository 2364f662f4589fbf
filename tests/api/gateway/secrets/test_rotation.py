"""Keys of secrets are replaced while the platform runs; afterwards the old key opens nothing."""

import asyncio
import secrets as random

import pytest
from sqlalchemy import text

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.data.opening import secret_place
from slipway_gateway.secrets import rotation
from slipway_gateway.secrets.rotation import put_new_key, rotate
from slipway_gateway.settings import GatewaySettings
from slipway_kit.ids import new_id
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import KeyFileError
from slipway_kit.vault import HEADER_BYTES, Vault, VaultError


@pytest.fixture
def settings(settings: GatewaySettings, tmp_path) -> GatewaySettings:
    return settings.model_copy(update={"older_secret_keys_dir": tmp_path / "older"})


async def put_many(context: GatewayContext, count: int) -> list[tuple]:
    """Secrets in a scope each; where they are."""
    places = [(new_id(), f"N{number}") for number in range(count)]
    async with context.db.transaction() as session:
        service = Factory(context, session).secrets
        for scope_id, name in places:
            await service.put("project", scope_id, name, f"value of {name}")
    return places


async def check_all(context: GatewayContext, places: list[tuple]) -> None:
    async with context.db.read() as session:
        service = Factory(context, session).secrets
        for scope_id, name in places:
            assert await service.value("project", scope_id, name, 1) == f"value of {name}"


async def key_ids(context: GatewayContext) -> set[bytes]:
    async with context.db.read() as session:
        rows = await session.execute(text("SELECT envelope FROM secrets UNION ALL SELECT secret_envelope FROM stores"))
        return {bytes(row[0])[1:HEADER_BYTES] for row in rows}


async def add_store(context: GatewayContext, execute, owner: str) -> tuple:
    """A connected store, as far as its credentials go."""
    store_id = new_id()
    await execute(
        "INSERT INTO gateway.stores (id, owner_id, name, type, access_mode, configuration, secret_envelope)"
        " SELECT $1, id, 's', 's3', 'public', '{}', $2 FROM gateway.accounts WHERE slug = $3",
        store_id,
        context.vault.encrypt("store key", secret_place(store_id)),
        owner,
    )
    return secret_place(store_id)


async def test_rotation_while_running_and_afterwards_the_old_key_is_not_needed(me, context, settings, execute):
    places = await put_many(context, 450)
    store_place = await add_store(context, execute, "me")
    fresh, old = put_new_key(settings.secret_key_file, settings.older_secret_keys_dir)
    # The running gateway has both keys without a restart: it reads what is there and writes with the new one.
    await check_all(context, places[:3])
    places += await put_many(context, 1)
    assert await key_ids(context) == {old.encode(), fresh.encode()}

    reading = asyncio.create_task(check_all(context, places))
    said: list[str] = []
    assert await rotate(context.db, context.vault, said.append) == 451
    await reading
    assert said[-1].startswith("451 secrets")
    assert len(said) == 4, "three batches of secrets, one of stores"
    assert await key_ids(context) == {fresh.encode()}

    for file in settings.older_secret_keys_dir.iterdir():
        file.unlink()
    context.vault.keys = KeyRing(settings.secret_key_file)
    await check_all(context, places)
    async with context.db.read() as session:
        envelope = await session.scalar(text("SELECT secret_envelope FROM stores"))
    assert context.vault.decrypt(envelope, store_place) == "store key"
    assert await rotate(context.db, context.vault, said.append) == 0


async def test_a_rotation_that_was_cut_off_goes_on(context, settings, monkeypatch):
    places = await put_many(context, 5)
    put_new_key(settings.secret_key_file, settings.older_secret_keys_dir)
    monkeypatch.setattr(rotation, "BATCH", 2)

    class Killed(Exception):
        pass

    def die(_: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        await rotate(context.db, context.vault, die)
    assert len(await key_ids(context)) == 2
    await check_all(context, places)
    assert await rotate(context.db, context.vault, lambda _: None) == 3
    assert len(await key_ids(context)) == 1
    await check_all(context, places)


async def test_without_the_old_key_the_answer_names_it(context, settings, tmp_path):
    places = await put_many(context, 1)
    _, old = put_new_key(settings.secret_key_file, settings.older_secret_keys_dir)
    (settings.older_secret_keys_dir / f"secret-key-{old}").unlink()
    with pytest.raises(VaultError, match=old):
        await check_all(context, places)
    with pytest.raises(VaultError, match=old):
        await rotate(context.db, context.vault, lambda _: None)
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(KeyFileError, match="32 random bytes"):
        KeyRing(tmp_path / "short")


def test_swapped_changed_and_cut_envelopes_are_refused(tmp_path):
    (tmp_path / "key").write_text(random.token_hex(32))
    vault = Vault(KeyRing(tmp_path / "key"))
    first, second = ("project", "a", "KEY", "1"), ("project", "a", "KEY", "2")
    envelope, other = vault.encrypt("first", first), vault.encrypt("second", second)
    assert (vault.decrypt(envelope, first), vault.decrypt(other, second)) == ("first", "second")
    for place in (second, ("project", "aK", "EY", "1"), ("group", "a", "KEY", "1")):
        with pytest.raises(VaultError):
            vault.decrypt(envelope, place)
        with pytest.raises(VaultError):
            vault.rewrap(envelope, place)
    # Half of one with half of another: the wrapped key and the ciphertext belong together.
    for cut in (9, 21, 69, 81):
        with pytest.raises(VaultError):
            vault.decrypt(envelope[:cut] + other[cut:], first)
    for position in range(len(envelope)):
        changed = bytearray(envelope)
        changed[position] ^= 1
        with pytest.raises(VaultError):
            vault.decrypt(bytes(changed), first)
        with pytest.raises(VaultError):
            vault.decrypt(envelope[:position], first)


async def test_swapping_rows_of_the_table_fails(me, project, context, execute):
    """An administrator of the database cannot give one project's secret to another variable."""
    url = f"{project['url']}environment_variable/"
    for name in ("A", "B"):
        await me.post(url, json={"name": name, "value": f"value of {name}", "secret": True})
    await execute(
        "UPDATE gateway.secrets AS one SET envelope = two.envelope FROM gateway.secrets AS two"
        " WHERE one.name = 'A' AND two.name = 'B'"
    )
    async with context.db.read() as session:
        secrets = Factory(context, session).secrets
        scope_id = (await session.execute(text("SELECT scope_id FROM secrets LIMIT 1"))).scalar_one()
        assert await secrets.value("project", scope_id, "B", 1) == "value of B"
        with pytest.raises(VaultError, match="changed or moved"):
            await secrets.value("project", scope_id, "A", 1)
