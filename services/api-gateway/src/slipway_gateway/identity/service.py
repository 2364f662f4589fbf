"""Use cases of identity: tokens, login, accounts."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.database import Database
from slipway_gateway.identity.domain import (
    ATTEMPT_LIMIT,
    MAX_PASSWORD_LENGTH,
    MAX_TOKEN_DAYS,
    MAX_TOKEN_NAME_LENGTH,
    MIN_PASSWORD_LENGTH,
    SESSION_LIFETIME,
    Account,
    IssuedToken,
    LoginUser,
    TokenInfo,
    TokenKind,
    User,
    normal_slug,
)
from slipway_gateway.identity.passwords import hash_password, verify_password
from slipway_gateway.identity.store import IdentityStore
from slipway_kit.auth import new_secret_token, token_hash
from slipway_kit.clock import Clock
from slipway_kit.errors import FieldProblem, Forbidden, Invalid, NotFound


class TokenService:
    """Tokens of one unit of work."""

    def __init__(self, session: AsyncSession, pepper: str) -> None:
        self._store = IdentityStore(session)
        self._pepper = pepper

    async def issue(
        self,
        user_id: int,
        kind: TokenKind,
        *,
        name: str,
        expires_at: datetime | None,
        opened_by: UUID | None = None,
    ) -> IssuedToken:
        """Make a token. Its value is known only to the answer; the row has a keyed hash.

        `opened_by` is the API token that opens a session, which ends with it.
        """
        value = new_secret_token()
        hashed = token_hash(value, self._pepper)
        token_id = await self._store.add_token(user_id, hashed, kind, name, expires_at, opened_by)
        return IssuedToken(token_id, value, expires_at)

    async def api_tokens(self, user: User) -> Sequence[TokenInfo]:
        """The user's API tokens that are not revoked, newest first."""
        return await self._store.tokens_of(user.id, TokenKind.API)

    async def create_api_token(self, user: User, *, name: str, days: str, now: datetime) -> IssuedToken:
        """Make an API token as a form asks for it; `days` until it expires, empty = never. Raises `Invalid`."""
        problems: dict[str, list[FieldProblem]] = {}
        if not 1 <= len(name) <= MAX_TOKEN_NAME_LENGTH:
            problems["name"] = [FieldProblem(f"A name has 1 to {MAX_TOKEN_NAME_LENGTH} characters.")]
        lifetime = _lifetime(days)
        if days and lifetime is None:
            problems["days"] = [FieldProblem(f"Give whole days from 1 to {MAX_TOKEN_DAYS}, or nothing.")]
        if problems:
            raise Invalid.fields(problems)
        expires_at = None if lifetime is None else now + lifetime
        return await self.issue(user.id, TokenKind.API, name=name, expires_at=expires_at)

    async def revoke(self, user: User, token_id: UUID) -> None:
        """End a token and the sessions it opened now. Raises `NotFound` when it is not one of the user's."""
        if not await self._store.revoke_token(user.id, token_id):
            raise NotFound("There is no such token, or it has been revoked before.")
        await self._store.revoke_sessions_opened_by(token_id)

    async def end_session(self, value: str) -> None:
        """End the browser session with this cookie value."""
        await self._store.revoke_session(token_hash(value, self._pepper))


class LoginService:
    """Checks passwords. It uses short units of work of its own: a failure must be kept although the login is refused,
    and no transaction is held open while a hash is computed."""

    def __init__(self, db: Database, pepper: str, clock: Clock) -> None:
        self._db = db
        self._pepper = pepper
        self._clock = clock

    async def login(self, username: str, password: str, *, address: str, kind: TokenKind) -> tuple[User, IssuedToken]:
        """A new token for who knows the password.

        Raises `Invalid` with code `invalid_credentials`, `has_external_identity` or `has_2fa`; `Forbidden` with code
        `too_many_attempts` after too many wrong passwords from one address.
        """
        slug = username.strip().lower()
        key = hashlib.sha256(f"{slug}\n{address}".encode()).hexdigest()
        async with self._db.read() as session:
            store = IdentityStore(session)
            failures = await store.failures(key)
            found = await store.login_user(slug)
        if failures >= ATTEMPT_LIMIT:
            raise Forbidden("Too many wrong passwords. Wait five minutes and try again.", code="too_many_attempts")
        if found is not None and found.external_login:
            raise Invalid(
                "This account logs in through an external identity. Make a token at /auth/tokens/ and log in with it.",
                code="has_external_identity",
            )
        correct = await verify_password(found.password_hash if found else None, password[:MAX_PASSWORD_LENGTH])
        if found is None or not correct or not found.active:
            async with self._db.transaction() as session:
                await IdentityStore(session).add_failure(key)
            raise Invalid("The user name or the password is wrong.", code="invalid_credentials")
        if found.two_factor:
            raise Invalid(
                "This account needs a second factor. Make a token at /auth/tokens/ and log in with it.", code="has_2fa"
            )
        async with self._db.transaction() as session:
            await IdentityStore(session).clear_failures(key)
            token = await self._issue(session, found, kind)
        return found.user, token

    async def login_with_token(self, value: str) -> tuple[User, IssuedToken]:
        """A browser session for who has an API token; it ends with that token at the latest.

        Raises `Invalid` with code `invalid_token`.
        """
        hashed = token_hash(value, self._pepper)
        async with self._db.transaction() as session:
            store = IdentityStore(session)
            found, token = await store.user_by_token(hashed), await store.api_token(hashed)
            if found is None or token is None:
                raise Invalid("This token is wrong, has expired or was revoked.", code="invalid_token")
            expires_at = self._clock.now() + SESSION_LIFETIME
            if token.expires_at is not None:
                expires_at = min(expires_at, token.expires_at)
            issued = await TokenService(session, self._pepper).issue(
                found[0].id, TokenKind.SESSION, name="Browser session", expires_at=expires_at, opened_by=token.id
            )
        return found[0], issued

    async def _issue(self, session: AsyncSession, found: LoginUser, kind: TokenKind) -> IssuedToken:
        tokens = TokenService(session, self._pepper)
        if kind is TokenKind.SESSION:
            expires_at = self._clock.now() + SESSION_LIFETIME
            return await tokens.issue(found.user.id, kind, name="Browser session", expires_at=expires_at)
        return await tokens.issue(found.user.id, kind, name="Login with password", expires_at=None)


class AccountService:
    """Users and organizations, as an operator manages them."""

    def __init__(self, session: AsyncSession) -> None:
        self._store = IdentityStore(session)

    async def add_user(
        self, username: str, *, password: str | None = None, email: str = "", is_admin: bool = False
    ) -> User:
        """Make a user. Without a password the user can only come with a token. Raises `Invalid`."""
        hashed = None if password is None else await hash_password(_checked_password(password))
        account_id, slug = await self._add_account(username, "user")
        await self._store.add_user(account_id, {"email": email, "is_admin": is_admin, "password_hash": hashed})
        return User(account_id, slug, email, is_admin)

    async def set_password(self, username: str, password: str) -> None:
        """Give a user a new password. Raises `NotFound`, `Invalid`."""
        found = await self.user(username)
        await self._store.change_user(found.id, {"password_hash": await hash_password(_checked_password(password))})

    async def set_external(self, username: str, external: bool) -> None:
        """Say whether a user logs in somewhere else, so that passwords are not taken here."""
        await self._store.change_user((await self.user(username)).id, {"external_login": external})

    async def set_two_factor(self, username: str, required: bool) -> None:
        """Say whether a password alone opens nothing, neither a token nor a browser session."""
        await self._store.change_user((await self.user(username)).id, {"two_factor": required})

    async def set_active(self, username: str, active: bool) -> None:
        """Shut a user out, tokens included, or let the user in again."""
        await self._store.change_user((await self.user(username)).id, {"active": active})

    async def user(self, username: str) -> User:
        """The user of this name. Raises `NotFound`."""
        found = await self._store.login_user(username.strip().lower())
        if found is None:
            raise NotFound(f"There is no user {username!r}. Make one with: slipway user add {username}")
        return found.user

    async def add_organization(self, name: str) -> Account:
        """Make an organization. Raises `Invalid`."""
        account_id, slug = await self._add_account(name, "organization")
        await self._store.add_organization(account_id, name)
        return Account(account_id, slug, "organization")

    async def add_member(self, organization: str, username: str, *, is_admin: bool = False) -> None:
        """Put a user into an organization, or change the role of one who is in it. Raises `NotFound`."""
        found, user = await self._organization(organization), await self.user(username)
        await self._store.add_member(found.id, user.id, is_admin=is_admin)

    async def remove_member(self, organization: str, username: str) -> None:
        """Take a user out of an organization. Raises `NotFound`, also when the user is not in it."""
        found, user = await self._organization(organization), await self.user(username)
        if not await self._store.remove_member(found.id, user.id):
            raise NotFound(f"{user.username!r} is not a member of {found.slug!r}.")

    async def owners_for(self, user: User) -> Sequence[Account]:
        """The accounts that this user may create projects under, the user first."""
        return await self._store.owners_for(user.id)

    async def administers(self, user: User, account: Account) -> bool:
        """Whether a user may change what belongs to an account as a whole, such as the variables of an organization.

        People administer themselves. An organization is administered by the members who have that role, and by
        members who administer the platform.
        """
        if account.id == user.id:
            return True
        if user.is_admin:
            return any(account.id == own.id for own in await self.owners_for(user))
        return await self._store.is_organization_admin(account.id, user.id)

    async def lock(self, account: Account) -> None:
        """Let changes of what belongs to an account as a whole wait for each other until the commit."""
        await self._store.lock_account(account.id)

    async def account(self, reference: str | int) -> Account | None:
        """A user or organization by name or id, or None."""
        if isinstance(reference, int):
            return await self._store.account_by_id(reference)
        return await self._store.account_by_slug(reference.strip().lower())

    async def _organization(self, name: str) -> Account:
        found = await self._store.account_by_slug(name.strip().lower())
        if found is None or found.kind != "organization":
            raise NotFound(f"There is no organization {name!r}. Make one with: slipway org add {name}")
        return found

    async def _add_account(self, name: str, kind: str) -> tuple[int, str]:
        slug = normal_slug(name)
        if slug is None:
            raise Invalid(
                f"{name!r} cannot be a name: use 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first.",
                field="name",
            )
        account_id = await self._store.add_account(slug, kind)
        if account_id is None:
            raise Invalid(f"The name {slug!r} is taken by another user or organization.", field="name", code="unique")
        return account_id, slug


def _lifetime(days: str) -> timedelta | None:
    number = int(days) if re.fullmatch("[0-9]{1,5}", days) else 0
    return timedelta(days=number) if 1 <= number <= MAX_TOKEN_DAYS else None


def _checked_password(password: str) -> str:
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise Invalid(f"A password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters.", field="password")
    return password
