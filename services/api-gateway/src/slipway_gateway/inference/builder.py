"""What the gateway asks of inference-builder, with its refusals in the words of the public API."""

from collections.abc import Iterator
from contextlib import contextmanager

from slipway_kit.errors import Conflict, Invalid

INTERNAL = "/internal/v1"
CREATE_SECONDS = 20.0
MOVE_SECONDS = 20.0
"""An alias move waits for the routers to confirm it."""


@contextmanager
def refused_fields() -> Iterator[None]:
    """A conflict about one field of a creation, such as a name that is taken, is a wrong field to clients.

    Contract 4.2: 400 with `{"name": [{message, code: "unique"}]}`.
    """
    try:
        yield
    except Conflict as error:
        if error.field is None:
            raise
        raise Invalid(error.message, field=error.field, code=error.code) from error
