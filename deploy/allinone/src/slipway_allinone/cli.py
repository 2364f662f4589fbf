"""The `slipway` command."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from slipway_allinone import doctor as doctor_module
from slipway_allinone.configuration import UpOptions
from slipway_allinone.demo import Demo, DemoError
from slipway_allinone.embedded.process import EmbeddedServerError
from slipway_allinone.health_text import print_health
from slipway_allinone.home import Home
from slipway_allinone.platform import MODULES, Platform, PlatformError, RunningPlatform
from slipway_allinone.runs import end_runs, end_zygote, running_attempts
from slipway_kit.errors import SlipwayError
from slipway_kit.keys import KeyFileError
from slipway_kit.logging import configure
from slipway_kit.service import BindError

cli = typer.Typer(
    name="slipway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Slipway on this machine.",
)
_console = Console(stderr=True, highlight=False)


class RuntimeChoice(StrEnum):
    """How the local worker runs executions."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"
    FAKE = "fake"


class Layout(StrEnum):
    """How the services are laid out."""

    ONE = "one"
    SPLIT = "split"


HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SLIPWAY_HOME", help="Folder of this installation.", file_okay=False)
]
DEFAULT_HOME = Path(".slipway")


@cli.command()
def up(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(envvar="SLIPWAY_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SLIPWAY_PORT", help="Port to listen on.")] = 8000,
    runtime: Annotated[
        RuntimeChoice, typer.Option(envvar="SLIPWAY_RUNTIME", help="auto takes Docker when an engine answers.")
    ] = RuntimeChoice.AUTO,
    processes: Annotated[
        Layout, typer.Option(envvar="SLIPWAY_PROCESSES", help="All services in one process, or one each.")
    ] = Layout.ONE,
    slots: Annotated[int | None, typer.Option(envvar="SLIPWAY_SLOTS", help="Executions at a time.", min=1)] = None,
    public_url: Annotated[
        str | None, typer.Option(envvar="SLIPWAY_PUBLIC_URL", help="Origin under which clients reach the platform.")
    ] = None,
    worker_url: Annotated[
        str | None, typer.Option(envvar="SLIPWAY_WORKER_URL", help="Origin under which workers reach the platform.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(envvar="SLIPWAY_DATABASE_URL", help="Use this Postgres (a superuser's URL).")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(envvar="SLIPWAY_REDIS_URL", help="Use this Redis or Valkey.")] = None,
    allow_local_repositories: Annotated[
        list[Path] | None, typer.Option(help="Folder whose git repositories projects may link; can be repeated.")
    ] = None,
    allow_loopback: Annotated[
        bool,
        typer.Option(
            envvar="SLIPWAY_ALLOW_LOOPBACK", help="Let repositories and inputs be at addresses of this machine."
        ),
    ] = True,
    inference_port: Annotated[
        int | None,
        typer.Option(envvar="SLIPWAY_INFERENCE_PORT", help="Port of the endpoints; the one after --port if not given."),
    ] = None,
    inference_url: Annotated[
        str | None, typer.Option(envvar="SLIPWAY_INFERENCE_URL", help="Origin under which clients call endpoints.")
    ] = None,
    log_level: Annotated[str, typer.Option(envvar="SLIPWAY_LOG_LEVEL", help="What the services log.")] = "WARNING",
    stop_runs: Annotated[
        bool, typer.Option("--stop-runs", help="End running executions when the platform stops.")
    ] = False,
) -> None:
    """Start the platform and keep it running until Ctrl-C."""
    options = UpOptions(
        home=home.absolute(),
        host=host,
        port=port,
        runtime=runtime.value,
        split=processes is Layout.SPLIT,
        public_url=public_url,
        worker_url=worker_url.rstrip("/") if worker_url else None,
        database_url=database_url,
        redis_url=redis_url,
        slots=slots,
        allow_local_repositories=tuple(path.resolve() for path in allow_local_repositories or ()),
        log_level=log_level,
        allow_loopback=allow_loopback,
        inference_port=inference_port,
        inference_url=inference_url,
    )
    _run(_up(options, stop_runs=stop_runs))


async def _up(options: UpOptions, *, stop_runs: bool) -> None:
    stopping = _stop_on_signals()
    home = Home(options.home)
    async with Platform(options, _say).running() as platform:
        _print_ready(platform, home)
        await stopping.wait()
        _say("Stopping ...")
        if stop_runs:
            await end_runs(home)
    left = running_attempts(home)
    if left:
        _say(f"{left} running execution{'s go' if left > 1 else ' goes'} on; the next `slipway up` takes them back.")


def _print_ready(platform: RunningPlatform, home: Home) -> None:
    for notice in platform.notices:
        _say(notice)
    login = platform.credentials
    typer.echo(f"Slipway is ready at {login.url}")
    typer.echo(f"  vh login --host {login.url} --username {login.username} --password {login.password} --yes")
    typer.echo(f"  Password and token are kept in {home.credentials}. Ctrl-C stops the platform.")


@cli.command()
def demo(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(envvar="SLIPWAY_PORT", help="Port for a platform that is started.")] = 8000,
    runtime: Annotated[RuntimeChoice, typer.Option(envvar="SLIPWAY_RUNTIME")] = RuntimeChoice.AUTO,
    image: Annotated[
        str, typer.Option(envvar="DEMO_IMAGE", help="Image of the step, where Docker runs it.")
    ] = "python:3.12-slim",
    leave: Annotated[
        bool, typer.Option("--exit/--stay", envvar="DEMO_EXIT", help="End when the demo is over.")
    ] = False,
) -> None:
    """Take the sample project through the platform: commit, execution, live log, metadata, model file."""
    options = UpOptions(home=home.absolute(), port=port, runtime=runtime.value)
    _run(_demo(options, image, leave=leave))


async def _demo(options: UpOptions, image: str, *, leave: bool) -> None:
    stopping = _stop_on_signals()
    home = Home(options.home)
    demo = Demo(home, image)
    if await demo.platform_answers():
        _say("A platform already runs here; the demo uses it.")
        await demo.run(stopping)
        return
    async with Platform(options, _say).running() as platform:
        _print_ready(platform, home)
        await demo.run(stopping)
        if not leave and not stopping.is_set():
            typer.echo("The platform stays up until Ctrl-C.")
            await stopping.wait()


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@cli.command(context_settings=_PASSED_ON)
def user(context: typer.Context, home: HomeOption = DEFAULT_HOME) -> None:
    """Manage users of the running platform: `slipway user --help`."""
    _ask_service(home, "gateway", "user", context.args)


@cli.command(context_settings=_PASSED_ON)
def org(context: typer.Context, home: HomeOption = DEFAULT_HOME) -> None:
    """Manage organizations of the running platform: `slipway org --help`."""
    _ask_service(home, "gateway", "org", context.args)


@cli.command(context_settings=_PASSED_ON)
def secrets(context: typer.Context, home: HomeOption = DEFAULT_HOME) -> None:
    """Bring the secrets of the running platform under a new key: `slipway secrets rotate --new-key`."""
    _ask_service(home, "gateway", "secrets", context.args)


@cli.command(context_settings=_PASSED_ON)
def environment(context: typer.Context, home: HomeOption = DEFAULT_HOME) -> None:
    """Manage environments of the running platform: `slipway environment --help`."""
    _ask_service(home, "scheduler", "environment", context.args)


def _ask_service(home: Path, service: str, command: str, arguments: list[str]) -> None:
    """Run a service's own command with the settings that the platform gave to the service."""
    variables = Home(home.absolute()).load_environment(service)
    if variables is None:
        raise _stop(f"No platform was started at {home} yet: run slipway up first.")
    done = subprocess.run(
        [sys.executable, "-m", MODULES[service], command, *arguments], env={**os.environ, **variables}, check=False
    )
    raise typer.Exit(done.returncode)


@cli.command()
def doctor(
    home: HomeOption = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what this machine has and lacks, and what is wrong or behind in the platform that runs on it."""
    report = asyncio.run(doctor_module.examine(Home(home.absolute())))
    if as_json:
        typer.echo(report.json())
    else:
        for finding in report.machine:
            mark = "[green]ok[/]" if finding.good else "[yellow]!![/]"
            _console.print(f"{mark}  {escape(finding.text)}")
        if report.platform is not None:
            print_health(report.platform, _console)
    if not report.healthy:
        raise typer.Exit(1)


@cli.command()
def reset(
    home: HomeOption = DEFAULT_HOME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete this installation: database, files, logs and keys."""
    folder = Home(home.absolute())
    if not folder.root.exists():
        typer.echo(f"There is nothing at {folder.root}.")
        return
    if not folder.keys.exists():
        raise _stop(f"{folder.root} is not the home of a platform: it has no keys folder. Nothing was deleted.")
    if not yes:
        typer.confirm(f"Delete everything in {folder.root}?", abort=True)
    _run(_reset(folder))


async def _reset(home: Home) -> None:
    from slipway_allinone.embedded.postgres import EmbeddedPostgres
    from slipway_allinone.embedded.valkey import EmbeddedValkey

    await end_runs(home)
    await end_zygote(home)
    await EmbeddedPostgres(home.root).destroy()
    await EmbeddedValkey(home.root).destroy()
    await asyncio.to_thread(shutil.rmtree, home.root)
    typer.echo(f"{home.root} is gone.")


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _say(text: str) -> None:
    _console.print(text, style="dim")


def _run(main: Any) -> None:
    configure("slipway", os.environ.get("SLIPWAY_LOG_LEVEL", "WARNING"), json=False)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except (PlatformError, EmbeddedServerError, BindError, KeyFileError, SlipwayError, DemoError) as error:
        raise _stop(str(error)) from None


def _stop(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)


def main() -> None:
    """Run the command line."""
    with suppress(KeyboardInterrupt):
        cli()
