"""Pages of a list: by keyset cursor, or by offset for clients that count (design section 12, 'v0 lists')."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.errors import Invalid

T = TypeVar("T")
U = TypeVar("U")

MAX_LIMIT = 10_000
MAX_OFFSET = 100_000
COUNT_CEILING = 10_000
"""Counts are exact up to here; above it the answer is one more."""


@dataclass(frozen=True)
class PageRequest:
    """Which part of a list is wanted. `after` is the sort value and id of the last row seen."""

    limit: int = MAX_LIMIT
    offset: int = 0
    after: tuple[Any, Any] | None = None
    ordering: str | None = None
    count: bool = True


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page. `next_after` is None on the last one; `count` is None when it was not asked for."""

    items: Sequence[T]
    count: int | None
    next_after: tuple[Any, Any] | None

    def of(self, items: Sequence[U]) -> "Page[U]":
        """The same place in the list with other items."""
        return Page(items, self.count, self.next_after)


async def fetch_page(
    session: AsyncSession,
    statement: Select[*tuple[Any, ...]],
    request: PageRequest,
    *,
    orderings: Mapping[str, ColumnElement[Any]],
    default: str,
    key: ColumnElement[Any],
) -> Page[Any]:
    """Run `statement` for one page, in the order that is asked for; equal values are ordered by `key`.

    `orderings` maps public words to columns that are never null; a `-` before the word turns it round.
    Raises `Invalid` for an ordering that does not exist.
    """
    word = request.ordering or default
    descending = word.startswith("-")
    column = orderings.get(word.lstrip("-"))
    if column is None:
        known = ", ".join(sorted(orderings))
        raise Invalid(f"Lists of this kind are ordered by one of: {known}.", field="ordering", code="invalid_choice")
    count = None
    if request.count:
        counted = statement.order_by(None).limit(COUNT_CEILING + 1).subquery()
        count = await session.scalar(select(func.count()).select_from(counted))
    position = tuple_(column, key)
    if request.after is not None:
        last = tuple_(literal(request.after[0], column.type), literal(request.after[1], key.type))
        statement = statement.where(position < last if descending else position > last)
    statement = statement.add_columns(column.label("page_value"), key.label("page_key"))
    order = (column.desc(), key.desc()) if descending else (column.asc(), key.asc())
    statement = statement.order_by(*order).offset(request.offset).limit(request.limit + 1)
    rows = (await session.execute(statement)).all()
    shown = rows[: request.limit]
    more = len(rows) > request.limit
    return Page(shown, count, (shown[-1].page_value, shown[-1].page_key) if more else None)
