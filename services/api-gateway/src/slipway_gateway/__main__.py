"""The command `slipway-gateway`: serve, openapi, and the operator's commands for accounts and keys."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from slipway_db import Database
from slipway_gateway.database import SCHEMA
from slipway_gateway.identity.admin import Administration
from slipway_gateway.secrets.rotation import put_new_key, rotate
from slipway_gateway.settings import GatewaySettings
from slipway_gateway.spec import SPEC
from slipway_kit.cli import service_cli
from slipway_kit.errors import SlipwayError
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import KeyFileError
from slipway_kit.settings import SettingsError
from slipway_kit.vault import Vault

T = TypeVar("T")


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


def _run(action: Callable[[Administration], Awaitable[T]]) -> T:
    async def run() -> T:
        settings = GatewaySettings.load()
        admin = Administration(settings.database.url.get_secret_value(), settings.token_pepper_file)
        try:
            return await action(admin)
        finally:
            await admin.close()

    try:
        return asyncio.run(run())
    except (SlipwayError, SettingsError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _password(from_stdin: bool, file: Path | None) -> str | None:
    if file is not None:
        return file.read_text().rstrip("\n")
    return sys.stdin.readline().rstrip("\n") if from_stdin else None


async def _rotate(new_key: bool) -> None:
    settings = GatewaySettings.load()
    older = settings.older_secret_keys_dir
    if older is None:
        raise SettingsError("Set SLIPWAY_GATEWAY__OLDER_SECRET_KEYS_DIR: the folder of keys that are only read with.")
    if new_key:
        fresh, old = put_new_key(settings.secret_key_file, older)
        typer.echo(f"Key {fresh} is the current one; key {old} is kept in {older}.")
    db = Database(settings.database.url.get_secret_value(), schema=SCHEMA, pool_size=1)
    try:
        vault = Vault(KeyRing(settings.secret_key_file, older))
        done = await rotate(db, vault, typer.echo)
    finally:
        await db.close()
    typer.echo(f"All secrets are under key {vault.keys.current().id}; {done} were wrapped anew.")
    kept = ", ".join(str(key.file) for key in vault.keys.older())
    if kept:
        typer.echo(f"The platform needs these keys no more: {kept}. Backups made before now do: keep them together.")


def secrets_cli() -> typer.Typer:
    """The commands `secrets …`."""
    cli = typer.Typer(no_args_is_help=True)

    @cli.callback()
    def group() -> None:
        """Keys of the secrets that are kept."""

    @cli.command("rotate")
    def rotate_keys(
        new_key: Annotated[bool, typer.Option("--new-key", help="Make a new key first.")] = False,
    ) -> None:
        """Bring all secrets under the current key. May run while the platform runs, and again after it was cut off."""
        try:
            asyncio.run(_rotate(new_key))
        except (SlipwayError, SettingsError, KeyFileError, OSError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None

    return cli


def admin_cli() -> typer.Typer:
    """The commands `user …`, `org …` and `secrets …`."""
    cli, user, organization, member = (typer.Typer(no_args_is_help=True) for _ in range(4))
    cli.add_typer(secrets_cli(), name="secrets", help="Manage the keys of secrets.")
    cli.add_typer(user, name="user", help="Manage users.")
    cli.add_typer(organization, name="org", help="Manage organizations.")
    organization.add_typer(member, name="member", help="Manage members of organizations.")

    @user.command("add")
    def add_user(
        name: str,
        password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
        password_file: Annotated[Path | None, typer.Option(help="Read the password from a file.")] = None,
        admin: Annotated[bool, typer.Option(help="May use the administrator's API.")] = False,
        email: str = "",
    ) -> None:
        """Make a user; without a password the user can only come with a token."""
        password = _password(password_stdin, password_file)
        made = _run(lambda accounts: accounts.add_user(name, password=password, email=email, is_admin=admin))
        typer.echo(f"User {made.username} has id {made.id}.")

    @user.command("password")
    def set_password(name: str, password_file: Annotated[Path | None, typer.Option()] = None) -> None:
        """Set a user's password, from a file or from standard input."""
        password = _password(True, password_file) or ""
        _run(lambda accounts: accounts.set_password(name, password))

    @user.command("token")
    def issue_token(name: str) -> None:
        """Make a token and print it. It is not shown again."""
        typer.echo(_run(lambda accounts: accounts.issue_token(name)).value)

    @user.command("external")
    def set_external(name: str, off: Annotated[bool, typer.Option("--off")] = False) -> None:
        """Say that a user logs in somewhere else, so that passwords are not taken."""
        _run(lambda accounts: accounts.set_external(name, not off))

    @user.command("two-factor")
    def set_two_factor(name: str, state: Switch) -> None:
        """Say whether a password alone opens nothing for a user, so that a token is needed to log in."""
        _run(lambda accounts: accounts.set_two_factor(name, state is Switch.ON))

    @user.command("deactivate")
    def deactivate(name: str) -> None:
        """Shut a user out at once: the password, all tokens and all browser sessions open nothing."""
        _run(lambda accounts: accounts.set_active(name, False))

    @user.command("activate")
    def activate(name: str) -> None:
        """Let a user in again who was deactivated."""
        _run(lambda accounts: accounts.set_active(name, True))

    @organization.command("add")
    def add_organization(name: str) -> None:
        """Make an organization."""
        _run(lambda accounts: accounts.add_organization(name))

    @member.command("add")
    def add_member(
        name: str,
        username: str,
        admin: Annotated[bool, typer.Option(help="May change the organization's variables and groups.")] = False,
    ) -> None:
        """Put a user into an organization, or change the role of one who is in it."""
        _run(lambda accounts: accounts.add_member(name, username, is_admin=admin))

    @member.command("remove")
    def remove_member(name: str, username: str) -> None:
        """Take a user out of an organization."""
        _run(lambda accounts: accounts.remove_member(name, username))

    return cli


def main() -> None:
    """Run the command line."""
    service_cli(SPEC, admin_cli())()


if __name__ == "__main__":
    main()
