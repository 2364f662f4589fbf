"""Lists of the compatible API: query words and the envelope `{count, next, previous, results}` (contract 1.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from slipway_gateway.paging import MAX_LIMIT, MAX_OFFSET, Page, PageRequest
from slipway_kit.errors import Invalid
from slipway_kit.pagination import V0Page, decode_cursor, encode_cursor

__all__ = ["List", "ListQuery", "V0Page", "as_json", "words"]

DEFAULT_LIMIT = 1000
"""Large on purpose: clients that send no limit stop at the first page."""


def words(value: str | None) -> frozenset[str]:
    """`a, b` as a set. Unknown words are nobody's error: clients name fields that this server does not have."""
    return frozenset(word.strip() for word in (value or "").split(",") if word.strip())


def as_json(item: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """A view as JSON values."""
    return item.model_dump(mode="json", by_alias=True) if isinstance(item, BaseModel) else dict(item)


@dataclass(frozen=True)
class ListQuery:
    """The query words that every list understands."""

    page: PageRequest
    exclude: frozenset[str]
    include: frozenset[str]
    address: str
    parameters: tuple[tuple[str, str], ...]

    def answer(self, page: Page[Any], results: Iterable[BaseModel | Mapping[str, Any]]) -> JSONResponse:
        """The envelope around `results`, without the keys that the caller excluded."""
        rendered = [
            {name: value for name, value in as_json(item).items() if name not in self.exclude} for item in results
        ]
        return JSONResponse({"count": page.count, "next": self._next(page), "previous": None, "results": rendered})

    def _next(self, page: Page[Any]) -> str | None:
        if page.next_after is None:
            return None
        kept = [(name, value) for name, value in self.parameters if name not in {"cursor", "offset"}]
        return f"{self.address}?{urlencode([*kept, ('cursor', encode_cursor(*page.next_after))])}"


def list_query(
    request: Request,
    limit: Annotated[int, Query(description=f"Rows per page, at most {MAX_LIMIT}.")] = DEFAULT_LIMIT,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    cursor: Annotated[str | None, Query(description="From `next`.")] = None,
    ordering: Annotated[str | None, Query()] = None,
    no_count: Annotated[bool, Query()] = False,
    exclude: Annotated[str | None, Query(description="Keys to leave out, by comma.")] = None,
    include: Annotated[str | None, Query(description="Keys to add, by comma.")] = None,
) -> ListQuery:
    """Read the common query words; a limit above the maximum means the maximum."""
    after = decode_cursor(cursor) if cursor else None
    if after is not None and len(after) != 2:
        raise Invalid("This cursor is not one that the server gave out.", field="cursor")
    return ListQuery(
        page=PageRequest(
            limit=min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT,
            offset=offset,
            after=None if after is None else (after[0], after[1]),
            ordering=ordering,
            count=not no_count,
        ),
        exclude=words(exclude),
        include=words(include),
        address=request.app.state.context.public_origin + request.url.path,
        parameters=tuple(request.query_params.multi_items()),
    )


List = Annotated[ListQuery, Depends(list_query)]
"""Parameter of a list route."""
