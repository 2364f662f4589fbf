"""When a request to a store is worth another try, and how long to wait before it."""

import random
from dataclasses import dataclass
from http import HTTPStatus

from slipway_kit.errors import Forbidden, Invalid, NotFound, SlipwayError

_RETRIED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`tries` in a row without a byte of progress, with doubling jittered pauses between them."""

    tries: int = 6
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 20

    def pause_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row: half of it fixed, half at random."""
        longest = min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** (failures - 1))
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


class TryAgainError(Exception):
    """This try failed in a way that another may not."""


class RefusedError(TryAgainError):
    """The URL was refused, as after its end; a new one may do."""


def check_status(status: int, what: str) -> None:
    """Raise what an answer's status means; nothing below 400."""
    if status < HTTPStatus.BAD_REQUEST:
        return
    if status == HTTPStatus.FORBIDDEN:
        raise RefusedError(f"the store refused the signed URL ({status})")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRIED:
        raise TryAgainError(f"the store answered {status}")
    raise _final(status, what)


def _final(status: int, what: str) -> SlipwayError:
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return NotFound(f"The store has no {what} ({status}).")
    if status == HTTPStatus.UNAUTHORIZED:
        return Forbidden(f"The store wants other credentials for {what} ({status}).")
    return Invalid(f"The store refused the request for {what} ({status}).")
