"""Command line of the scheduler: run it, and set up environments directly on the database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_kit.cli import service_cli
from slipway_kit.errors import NotFound, SlipwayError
from slipway_kit.keys import read_pepper
from slipway_kit.settings import SettingsError
from slipway_scheduler.database import SCHEMA
from slipway_scheduler.environments.service import EnvironmentService
from slipway_scheduler.environments.store import EnvironmentStore
from slipway_scheduler.settings import SchedulerSettings
from slipway_scheduler.spec import SPEC
from slipway_schemas.environments import EnvironmentCreate, EnvironmentView, GroupTokenCreated

T = TypeVar("T")

extra = typer.Typer()
environment = typer.Typer(no_args_is_help=True, help="Environments (worker groups).")
token = typer.Typer(no_args_is_help=True, help="Group tokens, with which machines join an environment.")
extra.add_typer(environment, name="environment")
extra.add_typer(token, name="token")


def _on_database(work: Callable[[Database, str], Awaitable[T]]) -> T:
    async def run() -> T:
        settings = SchedulerSettings.load()
        db = Database(settings.database.url.get_secret_value(), schema=SCHEMA, pool_size=1)
        try:
            return await work(db, read_pepper(settings.token_pepper_file))
        finally:
            await db.close()

    try:
        return asyncio.run(run())
    except (SettingsError, SlipwayError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


async def _id_of(session: AsyncSession, slug: str) -> UUID:
    found = await EnvironmentStore(session).by_slug(slug)
    if found is None:
        raise NotFound(f"There is no environment {slug!r}. `environment list` shows those that exist.")
    return found.id


@environment.command("add")
def add_environment(
    slug: str,
    name: Annotated[str, typer.Option(help="Name for people; the slug when left out.")] = "",
    description: str = "",
    quota: Annotated[int, typer.Option(help="Unfinished executions per user; 0 = no limit.")] = 0,
) -> None:
    """Add an environment that every user may use."""

    async def work(db: Database, pepper: str) -> EnvironmentView:
        wanted = EnvironmentCreate(slug=slug, name=name or slug, description=description, per_user_queue_quota=quota)
        async with db.transaction() as session:
            return await EnvironmentService(session, pepper).create(wanted)

    typer.echo(_on_database(work).id)


@environment.command("list")
def list_environments() -> None:
    """List environments: id, slug, name."""

    async def work(db: Database, _pepper: str) -> list[str]:
        async with db.read() as session:
            return [f"{one.id}  {one.slug}  {one.name}" for one in await EnvironmentStore(session).all()]

    for line in _on_database(work):
        typer.echo(line)


@environment.command("remove")
def remove_environment(slug: Annotated[str, typer.Argument(help="Slug of the environment.")]) -> None:
    """Delete an environment; what runs in it goes on, and its name stays with its executions."""

    async def work(db: Database, pepper: str) -> None:
        async with db.transaction() as session:
            service = EnvironmentService(session, pepper)
            await service.delete(await _id_of(session, slug))

    _on_database(work)


@token.command("create")
def create_token(slug: Annotated[str, typer.Argument(help="Slug of the environment.")]) -> None:
    """Print a new group token of an environment; it is shown this once."""

    async def work(db: Database, pepper: str) -> GroupTokenCreated:
        async with db.transaction() as session:
            return await EnvironmentService(session, pepper).create_token(await _id_of(session, slug))

    typer.echo(_on_database(work).token)


def main() -> None:
    """Run the command line."""
    service_cli(SPEC, extra)()


if __name__ == "__main__":
    main()
