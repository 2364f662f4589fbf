"""The command line that every service has: `serve` and `openapi`."""

import asyncio
import json
from enum import StrEnum
from typing import Annotated, Any

import typer
import uvloop
from fastapi import FastAPI

from slipway_kit.keys import KeyFileError
from slipway_kit.logging import configure
from slipway_kit.service import Apps, BindError, ServiceSpec, Supervisor
from slipway_kit.settings import ServiceSettings, SettingsError


class AppName(StrEnum):
    """The apps that a service may have."""

    PUBLIC = "public"
    WORKERS = "workers"
    INTERNAL = "internal"


def service_cli(spec: ServiceSpec[Any, Any], extra: typer.Typer | None = None) -> typer.Typer:
    """Make the command line of a service; the commands of `extra` stand beside its own."""
    cli = typer.Typer(
        name=f"slipway-{spec.name}", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )

    @cli.command()
    def serve() -> None:
        """Run the service until SIGTERM or Ctrl-C; its settings come from the environment."""
        settings = _load(spec)
        configure(spec.name, settings.log.level, settings.log.json_lines)

        async def run() -> None:
            await Supervisor([(spec, settings)]).run()

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run())
        except (BindError, KeyFileError) as error:
            raise _stop(str(error)) from None

    @cli.command()
    def openapi(app: Annotated[AppName, typer.Option(help="Which app to describe.")] = AppName.PUBLIC) -> None:
        """Print the OpenAPI document of one app as JSON."""
        apps = spec.schema_apps() if spec.schema_apps is not None else asyncio.run(_opened_apps(spec))
        found = getattr(apps, app.value)
        if not isinstance(found, FastAPI):
            raise _stop(f"The service {spec.name} has no {app.value} app with an OpenAPI document.")
        typer.echo(json.dumps(found.openapi(), indent=2, sort_keys=True))

    if extra is not None:
        cli.add_typer(extra)
    return cli


async def _opened_apps(spec: ServiceSpec[Any, Any]) -> Apps:
    async with spec.context(_load(spec)) as context:
        return spec.apps(context)


def _load(spec: ServiceSpec[Any, Any]) -> ServiceSettings:
    try:
        settings: ServiceSettings = spec.settings.load()
    except SettingsError as error:
        raise _stop(str(error)) from None
    return settings


def _stop(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)
