"""Links to the neighbouring parts of a list."""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request

from slipway_gateway.paging import MAX_OFFSET, Page, PageRequest

PAGE_SIZE = 50

Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET)]


@dataclass(frozen=True)
class Pager:
    """Which rows are shown, counted from 1, and the addresses before and after them."""

    first: int
    last: int
    total: int | None
    previous: str | None
    next: str | None


def part(offset: int, *, ordering: str | None = None, size: int = PAGE_SIZE) -> PageRequest:
    """The part of a list that begins at `offset`."""
    return PageRequest(limit=size, offset=offset, ordering=ordering)


def pager_of(request: Request, page: Page[Any], offset: int, size: int = PAGE_SIZE) -> Pager:
    """The links below this part of the list; filters in the address are kept."""

    def address(start: int) -> str:
        kept = [(key, value) for key, value in request.query_params.multi_items() if key != "offset"]
        query = urlencode([*kept, ("offset", start)] if start else kept)
        return f"{request.url.path}?{query}" if query else request.url.path

    shown = len(page.items)
    end = offset + shown
    more = end < page.count if page.count is not None else shown == size
    return Pager(
        first=offset + 1 if shown else 0,
        last=end,
        total=page.count,
        previous=address(max(0, offset - size)) if offset else None,
        next=address(end) if more and shown else None,
    )
