"""SQL of identity."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.identity.access import owner_ids
from slipway_gateway.identity.domain import ATTEMPT_WINDOW, Account, LoginUser, TokenInfo, TokenKind, User
from slipway_gateway.identity.tables import (
    AccountRow,
    LoginAttemptRow,
    MembershipRow,
    OrganizationRow,
    TokenRow,
    UserRow,
)


class IdentityStore:
    """Reads and writes accounts, tokens and login attempts in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def user_by_token(self, token_hash: str) -> tuple[User, UUID] | None:
        """The active user behind a usable token, and the token's id. Time is the database's."""
        statement = (
            select(AccountRow, UserRow, TokenRow.id)
            .join(UserRow, UserRow.account_id == AccountRow.id)
            .join(TokenRow, TokenRow.user_id == UserRow.account_id)
            .where(
                TokenRow.token_hash == token_hash,
                TokenRow.revoked_at.is_(None),
                or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > func.now()),
                UserRow.active,
            )
        )
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else (_user(row[0], row[1]), row[2])

    async def api_token(self, token_hash: str) -> TokenInfo | None:
        """The API token with this hash; a session's value is none."""
        statement = select(TokenRow).where(TokenRow.token_hash == token_hash, TokenRow.kind == TokenKind.API)
        row = await self._session.scalar(statement)
        return None if row is None else _token(row)

    async def login_user(self, slug: str) -> LoginUser | None:
        """A user with what a login must know."""
        statement = select(AccountRow, UserRow).join(UserRow, UserRow.account_id == AccountRow.id)
        row = (await self._session.execute(statement.where(AccountRow.slug == slug))).one_or_none()
        if row is None:
            return None
        account, user = row
        return LoginUser(_user(account, user), user.password_hash, user.external_login, user.two_factor, user.active)

    async def account_by_slug(self, slug: str) -> Account | None:
        """A user or organization by name."""
        return _account(await self._session.scalar(select(AccountRow).where(AccountRow.slug == slug)))

    async def account_by_id(self, account_id: int) -> Account | None:
        """A user or organization by id."""
        return _account(await self._session.get(AccountRow, account_id))

    async def owners_for(self, user_id: int) -> Sequence[Account]:
        """The accounts that a user may create projects under: the user first, then organizations by name."""
        statement = (
            select(AccountRow)
            .where(AccountRow.id.in_(owner_ids(user_id)))
            .order_by(AccountRow.id != user_id, AccountRow.slug)
        )
        rows = await self._session.scalars(statement)
        return [Account(row.id, row.slug, row.kind) for row in rows]

    async def add_account(self, slug: str, kind: str) -> int | None:
        """A new account's id, or None when the name is taken."""
        statement = insert(AccountRow).values(slug=slug, kind=kind).on_conflict_do_nothing().returning(AccountRow.id)
        return await self._session.scalar(statement)

    async def add_user(self, account_id: int, values: Mapping[str, Any]) -> None:
        """The user part of a new account."""
        await self._session.execute(insert(UserRow).values(account_id=account_id, **values))

    async def change_user(self, account_id: int, values: Mapping[str, Any]) -> None:
        """Change columns of a user."""
        await self._session.execute(update(UserRow).where(UserRow.account_id == account_id).values(**values))

    async def add_organization(self, account_id: int, name: str) -> None:
        """The organization part of a new account."""
        await self._session.execute(insert(OrganizationRow).values(account_id=account_id, name=name))

    async def add_member(self, organization_id: int, user_id: int, *, is_admin: bool) -> None:
        """Put a user into an organization; for one who is in it already, only the role changes."""
        key = {"organization_id": organization_id, "user_id": user_id}
        statement = insert(MembershipRow).values(**key, is_admin=is_admin)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=list(key), set_={"is_admin": is_admin})
        )

    async def is_organization_admin(self, organization_id: int, user_id: int) -> bool:
        """Whether the user is in the organization as its administrator."""
        row = await self._session.get(MembershipRow, (user_id, organization_id))
        return row is not None and row.is_admin

    async def lock_account(self, account_id: int) -> None:
        """Hold an account's row until the commit: changes of what belongs to it as a whole wait for each other."""
        await self._session.execute(
            select(AccountRow.id).where(AccountRow.id == account_id).with_for_update(key_share=True)
        )

    async def remove_member(self, organization_id: int, user_id: int) -> bool:
        """Take a user out of an organization; False when the user was not in it."""
        statement = (
            delete(MembershipRow)
            .where(MembershipRow.organization_id == organization_id, MembershipRow.user_id == user_id)
            .returning(MembershipRow.user_id)
        )
        return await self._session.scalar(statement) is not None

    async def add_token(
        self,
        user_id: int,
        token_hash: str,
        kind: TokenKind,
        name: str,
        expires_at: datetime | None,
        opened_by: UUID | None = None,
    ) -> UUID:
        """Keep a new token's hash."""
        row = TokenRow(
            user_id=user_id,
            token_hash=token_hash,
            kind=kind,
            name=name,
            expires_at=expires_at,
            opened_by_id=opened_by,
        )
        self._session.add(row)
        await self._session.flush()
        return row.id

    async def tokens_of(self, user_id: int, kind: TokenKind) -> Sequence[TokenInfo]:
        """A user's tokens that are not revoked, newest first."""
        statement = (
            select(TokenRow)
            .where(TokenRow.user_id == user_id, TokenRow.kind == kind, TokenRow.revoked_at.is_(None))
            .order_by(TokenRow.created_at.desc(), TokenRow.id.desc())
        )
        return [_token(row) for row in await self._session.scalars(statement)]

    async def revoke_token(self, user_id: int, token_id: UUID) -> bool:
        """End one token of a user; False when there is none."""
        statement = (
            update(TokenRow)
            .where(TokenRow.id == token_id, TokenRow.user_id == user_id, TokenRow.revoked_at.is_(None))
            .values(revoked_at=func.now())
            .returning(TokenRow.id)
        )
        return await self._session.scalar(statement) is not None

    async def revoke_sessions_opened_by(self, token_id: UUID) -> None:
        """End the browser sessions that were opened with this token."""
        statement = update(TokenRow).where(TokenRow.opened_by_id == token_id, TokenRow.revoked_at.is_(None))
        await self._session.execute(statement.values(revoked_at=func.now()))

    async def revoke_session(self, token_hash: str) -> None:
        """End the browser session with this hash; an API token is left alone."""
        statement = update(TokenRow).where(
            TokenRow.token_hash == token_hash, TokenRow.kind == TokenKind.SESSION, TokenRow.revoked_at.is_(None)
        )
        await self._session.execute(statement.values(revoked_at=func.now()))

    async def touch_tokens(self, used: Mapping[UUID, datetime]) -> None:
        """Note when tokens were last used, many in one statement."""
        statement = (
            update(TokenRow)
            .where(TokenRow.id.in_(used))
            .values(last_used_at=case(dict(used), value=TokenRow.id))
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(statement)

    async def failures(self, key: str) -> int:
        """Wrong passwords under this key within the window."""
        statement = select(LoginAttemptRow.failures).where(
            LoginAttemptRow.key == key, LoginAttemptRow.since > func.now() - ATTEMPT_WINDOW
        )
        return await self._session.scalar(statement) or 0

    async def add_failure(self, key: str) -> None:
        """Count one more wrong password; a window that is over starts anew."""
        fresh = LoginAttemptRow.since > func.now() - ATTEMPT_WINDOW
        statement = insert(LoginAttemptRow).values(key=key, failures=1)
        statement = statement.on_conflict_do_update(
            index_elements=[LoginAttemptRow.key],
            set_={
                "failures": case((fresh, LoginAttemptRow.failures + 1), else_=1),
                "since": case((fresh, LoginAttemptRow.since), else_=func.now()),
            },
        )
        await self._session.execute(statement)

    async def clear_failures(self, key: str) -> None:
        """Forget wrong passwords, after the right one, and everybody's that are out of the window."""
        statement = delete(LoginAttemptRow).where(
            or_(LoginAttemptRow.key == key, LoginAttemptRow.since < func.now() - ATTEMPT_WINDOW)
        )
        await self._session.execute(statement)


def _user(account: AccountRow, user: UserRow) -> User:
    return User(id=account.id, username=account.slug, email=user.email, is_admin=user.is_admin)


def _account(row: AccountRow | None) -> Account | None:
    return None if row is None else Account(row.id, row.slug, row.kind)


def _token(row: TokenRow) -> TokenInfo:
    return TokenInfo(
        id=row.id,
        name=row.name,
        kind=TokenKind(row.kind),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
